"""What the hub asks of a machine-learning backend.

This module knows neither Django nor MLX: it holds the words (protocols, frozen
dataclasses, errors) that `backends/mlx` and `backends/fake` both speak, so that
everything above them can be tested without weights.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Protocol, TypedDict, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, model_validator

# --------------------------------------------------------------------------- errors


class BackendError(Exception):
    """Base of every error a backend raises on purpose; its text is one sentence for a person."""


class UnsupportedModel(BackendError):
    """The file or folder is not a model this backend can read; the text says why."""


class BadExample(BackendError):
    """A training example cannot be used; the text names the split and the line."""


class TrainingDiverged(BackendError):
    """Loss or gradient became NaN or infinite; the text names the iteration."""


class PromptTooLong(BackendError):
    """The prompt does not fit the context window; the text names both lengths."""


class TemplateMismatch(BackendError):
    """Training and the endpoint would read different tokens; the text names the first of them."""


class OutOfMemory(BackendError):
    """The device refused an allocation."""


# --------------------------------------------------------------------------- device


@dataclass(frozen=True)
class DeviceInfo:
    """Where a backend computes. `memory_bytes` is what the device may use in total."""

    backend: str  # "mlx" | "fake"
    device: str  # "cpu" | "metal" | "cuda" | "fake"
    name: str  # e.g. "Apple M4 Pro", "Intel Xeon"
    memory_bytes: int
    blas: str  # "accelerate" | "onemkl" | "reference" | "none"
    versions: dict[str, str]  # {"mlx": "0.32.4", "mlx-lm": "0.32.2", ...}
    warnings: tuple[str, ...] = ()


# --------------------------------------------------------------------------- importing


@dataclass(frozen=True)
class ImportedModel:
    """A normal MLX model folder that the importer has written."""

    path: Path
    architecture: str  # "llama", "qwen2", …
    quantization: str  # "float32", "bfloat16", "4-bit (group 64)", …
    parameters: int
    context_length: int


# --------------------------------------------------------------------------- fidelity


@dataclass(frozen=True)
class Fidelity:
    """How a converted model speaks beside what it was made from, teacher-forced on held-out rows.

    Every figure is over the answers' tokens: both models read the same true text.
    """

    kl: float  # mean KL(original ‖ converted), nats per token
    top1: float  # share of tokens on which both put the same one first
    largest_difference: float  # largest absolute difference of two logits
    perplexity: float  # of the original
    converted_perplexity: float
    tokens: int
    examples: int


# --------------------------------------------------------------------------- examining


@dataclass(frozen=True)
class SplitTokens:
    """What a tokenizer makes of one split. `lengths` has the tokens of each usable example, before
    any cut; the counts are of the examples that were examined."""

    total: int  # lines of the split
    examined: int  # of them, spread evenly
    lengths: list[int]
    trained: int  # tokens that the loss counts
    truncated: int  # examples longer than the limit
    dropped: int  # examples whose answer lies beyond the limit
    longest_line: int  # from 1; 0 for none
    wrong: int  # examples that training would refuse
    bad: list[str]  # the first of them, with line and reason


@dataclass(frozen=True)
class Piece:
    """A run of tokens as text: `trained` ones are learned, `cut` ones lie beyond the limit."""

    text: str
    trained: bool
    cut: bool
    tokens: int


@dataclass(frozen=True)
class RenderedExample:
    """An example as the model reads it: `tokens[start:]` are its answer."""

    split: str
    line: int  # from 1
    tokens: int
    start: int
    pieces: list[Piece]


@dataclass(frozen=True)
class Examination:
    """`rendered` has the first examples of each split, and its longest."""

    splits: dict[str, SplitTokens]
    rendered: list[RenderedExample]


# --------------------------------------------------------------------------- generation


class Message(TypedDict):
    """One chat message, as in the OpenAI API. An assistant's `tool_calls` and a tool's
    `tool_call_id` and `name` are there only when they apply."""

    role: str
    content: str
    tool_calls: NotRequired[list[dict[str, Any]]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]


@dataclass(frozen=True)
class Grammar:
    """What an answer must look like, enforced token by token.

    `source` is a JSON schema (as JSON text), a regular expression or a Lark grammar; it is empty
    for `json_object`, any JSON object.
    """

    kind: Literal["json_object", "json_schema", "regex", "lark"]
    source: str = ""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. `temperature` 0 is greedy; `seed` makes a draw repeatable.

    `repetition_penalty` divides (multiplies, when negative) the logits of tokens in the last
    `repetition_context` ones, prompt included; presence and frequency penalties are OpenAI's and
    look at the answer alone. `logit_bias` is (token, added to its logit). `top_logprobs` most
    likely tokens are told of each step when `logprobs` is set. `max_kv_tokens` keeps a rotating
    window of so many tokens of context, 0 all of them.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    repetition_penalty: float = 1.0
    repetition_context: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: bool = False
    top_logprobs: int = 0
    grammar: Grammar | None = None
    max_kv_tokens: int = 0


FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class TokenLogprob:
    """A token that might have come. `text` is its own, with U+FFFD for half a character."""

    token: int
    text: str
    logprob: float


@dataclass(frozen=True)
class Delta:
    """What one decoding step added to one row. `text` may be empty (half a UTF-8 character).

    `piece` is the token's own text and `top` the likeliest tokens, likeliest first; both only when
    the row asked for logprobs. `stop` is the stop string that ended the row, if one did.
    """

    uid: str
    text: str
    token: int
    logprob: float
    finish_reason: FinishReason | None = None
    piece: str = ""
    top: tuple[TokenLogprob, ...] = ()
    stop: str = ""


@dataclass(frozen=True)
class ToolCall:
    """A call that an answer asks for. `arguments` is JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True)
class LoadOptions:
    """How a model is kept in memory.

    `cache_bytes` is the budget of the prefix cache, 0 none; with `cache_dir` its entries outlive
    the process. `kv_bits` (4 or 8) quantizes keys and values of rows once they are `kv_after`
    tokens long. `draft` is the folder of a smaller model with the same tokenizer that proposes
    `draft_tokens` tokens at a time when a row runs alone.
    """

    cache_bytes: int = 0
    cache_dir: Path | None = None
    kv_bits: int | None = None
    kv_after: int = 0
    draft: Path | None = None
    draft_tokens: int = 3


@runtime_checkable
class LoadedModel(Protocol):
    """One base model in memory, serving any of its adapters in one running batch.

    Every method is called from the one thread that loaded it.
    """

    @property
    def nbytes(self) -> int:
        """Bytes that weights, adapters and caches hold now."""
        ...

    @property
    def context_length(self) -> int: ...

    @property
    def cache_bytes(self) -> int:
        """Bytes of `nbytes` that the prefix cache holds; they can be given back at any time."""
        ...

    def shrink_cache(self, most_bytes: int) -> None:
        """Drop least recently used prefixes until the cache holds at most `most_bytes`."""
        ...

    def encode(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] | None = None
    ) -> list[int]:
        """Token ids of the chat, rendered with the model's template and a generation prompt.
        `tools` are described to the template as JSON schemas."""
        ...

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a plain text, as a completion continues it."""
        ...

    def parse_tool_calls(
        self, text: str, tools: Sequence[dict[str, Any]]
    ) -> tuple[str, list[ToolCall]]:
        """(what is no call, the calls) of an answer, in the notation of the model's template.

        Raises BackendError when the text begins a call that cannot be read.
        """
        ...

    def tool_grammar(self, tools: Sequence[dict[str, Any]]) -> Grammar:
        """What an answer looks like that calls one of `tools` and says nothing else, in the
        notation of the model's template.

        Raises BackendError for a notation that is not known well enough to be enforced.
        """
        ...

    def embed(self, prompts: Sequence[Sequence[int]], adapter: Path | None) -> list[list[float]]:
        """One vector of unit length for each prompt: the mean of the last hidden states.

        Raises PromptTooLong, UnsupportedModel.
        """
        ...

    def add_adapter(self, path: Path) -> None:
        """Make the adapter folder at `path` usable; a no-op when it already is."""
        ...

    def insert(
        self, uid: str, prompt: Sequence[int], adapter: Path | None, sampling: Sampling
    ) -> int:
        """Add a row; it produces its first token in one of the next steps. Returns how many of the
        prompt's tokens the prefix cache had.

        Raises PromptTooLong, and BackendError for a grammar that cannot be compiled.
        """
        ...

    def step(self) -> list[Delta]:
        """Advance prefill or decoding once. Empty while only prefill happened or nothing waits."""
        ...

    def remove(self, uid: str) -> None:
        """Drop a row at once; unknown uids are ignored."""
        ...

    def close(self) -> None:
        """Give the memory back. Call on the same thread, before that thread ends."""
        ...


# --------------------------------------------------------------------------- training


class LoraConfig(BaseModel):
    """The adapter's shape, in mlx-lm's words. Without meaning for a full fine-tune."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: Annotated[int, Field(ge=1, le=256, description="Rank of the two LoRA factors")] = 8
    scale: Annotated[float, Field(gt=0, le=1000, description="Factor on the adapter's output")] = (
        20.0
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    keys: Annotated[
        tuple[str, ...] | None,
        Field(
            description="Linear layers adapted, by their path within a block, such as "
            '"self_attn.q_proj"; null is all of them'
        ),
    ] = None


class ScoringConfig(BaseModel):
    """How the finished model is judged on the test split, beside its base. It changes no weight."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scorer: Annotated[
        Literal["none", "exact_match", "json", "contains", "f1"],
        Field(description="How an answer is compared with the right one; none asks nothing"),
    ] = "exact_match"
    examples: Annotated[int, Field(ge=1, le=100_000, description="Of the test split")] = 50
    max_tokens: Annotated[int, Field(ge=1, le=32_768, description="Of each answer")] = 128
    lm_eval: Annotated[
        tuple[str, ...], Field(description="Tasks of lm-eval, where that package is installed")
    ] = ()


class TrainingConfig(BaseModel):
    """Everything that decides what a training run computes, besides data and base weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fine_tune_type: Annotated[
        Literal["lora", "dora", "full"],
        Field(description="A LoRA or DoRA adapter, or all weights of the chosen layers"),
    ] = "lora"
    objective: Annotated[
        Literal["sft", "dpo", "orpo"],
        Field(description="Learn from answers, or from chosen and rejected ones (dpo, orpo)"),
    ] = "sft"
    beta: Annotated[
        float, Field(gt=0, le=10, description="Weight of the preference in dpo and orpo")
    ] = 0.1
    iters: Annotated[int, Field(ge=1, le=1_000_000, description="Optimizer steps")] = 100
    epochs: Annotated[
        float | None,
        Field(gt=0, le=10_000, description="Passes over the data; replaces iters when given"),
    ] = None
    batch_size: Annotated[int, Field(ge=1, le=1024, description="Examples per batch")] = 4
    grad_accumulation_steps: Annotated[
        int, Field(ge=1, le=1024, description="Batches per optimizer step")
    ] = 1
    grad_checkpoint: Annotated[
        bool, Field(description="Compute activations twice to hold fewer in memory")
    ] = False
    packing: Annotated[
        bool, Field(description="Fill rows with several short examples that do not see each other")
    ] = False
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-4
    num_layers: Annotated[
        int, Field(ge=-1, description="Layers trained, counted from the top; -1 is all")
    ] = -1
    max_seq_length: Annotated[int, Field(ge=8, le=1_048_576, description="Tokens")] = 2048
    mask_prompt: Annotated[bool, Field(description="Learn from the answer's tokens only")] = True
    lora: LoraConfig = LoraConfig()
    optimizer: Literal["adam", "adamw", "sgd", "muon", "adafactor"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    warmup: Annotated[int, Field(ge=0, description="Steps of linear warm-up")] = 5
    grad_clip: Annotated[float, Field(ge=0, description="Global norm limit; 0 is off")] = 1.0
    steps_per_eval: Annotated[int, Field(ge=1, description="Steps between validations")] = 50
    patience: Annotated[
        int,
        Field(ge=0, description="Validations without a better loss until it stops; 0 never stops"),
    ] = 0
    restore_best: Annotated[
        bool, Field(description="End with the weights of the lowest validation loss")
    ] = True
    save_every: Annotated[int, Field(ge=1, description="Steps between checkpoints")] = 25
    keep_checkpoints: Annotated[
        int, Field(ge=1, le=1000, description="Newest checkpoints kept, besides the best")
    ] = 2
    samples: Annotated[
        int, Field(ge=0, le=16, description="Validation prompts answered at each validation")
    ] = 0
    sample_tokens: Annotated[int, Field(ge=1, le=4096, description="Longest such answer")] = 64
    scoring: ScoringConfig = ScoringConfig()
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0

    @model_validator(mode="after")
    def _settings_go_together(self) -> TrainingConfig:
        if self.epochs is None and self.warmup >= self.iters and self.warmup > 0:
            raise ValueError(
                f"warmup ({self.warmup}) must be smaller than iters ({self.iters}); "
                "lower warmup or train longer"
            )
        if self.packing and self.objective != "sft":
            raise ValueError(
                f"packing cannot be used with objective {self.objective}, which compares pairs of "
                "answers; switch packing off"
            )
        return self


@dataclass(frozen=True)
class TrainingRun:
    """One run. `data` holds train.jsonl, valid.jsonl and perhaps test.jsonl.

    `output` is an empty folder that receives `adapters.safetensors` and `adapter_config.json`.
    `checkpoints` survives the process: a run that finds a checkpoint there goes on from it and
    ends with the same bytes as a run that was never interrupted. A preference objective reads
    examples with "prompt", "chosen" and "rejected".
    """

    base: Path
    data: Path
    output: Path
    checkpoints: Path
    config: TrainingConfig


@dataclass(frozen=True)
class Started:
    """The run is set up. `iteration` is 0, or the last one done before an interruption; `iters` is
    how many optimizer steps it will take at most (`epochs` is known only once the data is read).
    """

    iteration: int
    iters: int
    trainable_parameters: int
    total_parameters: int


@dataclass(frozen=True)
class Stepped:
    """One optimizer step is done. Rates are over the last step; `train_loss` is its mean per token."""

    iteration: int
    train_loss: float
    learning_rate: float
    grad_norm: float
    tokens: int  # target tokens that the loss counted
    tokens_per_second: float  # unpadded tokens through the model, per second
    peak_memory_bytes: int


@dataclass(frozen=True)
class Evaluated:
    """Mean loss per target token over a whole split. `adapter` False is the untouched base."""

    iteration: int
    split: Literal["valid", "test"]
    loss: float
    adapter: bool = True


@dataclass(frozen=True)
class Sampled:
    """What the model says now to a prompt of the validation split, greedily."""

    iteration: int
    line: int  # of valid.jsonl, from 1
    prompt: str
    expected: str
    answer: str


@dataclass(frozen=True)
class Checkpointed:
    """A checkpoint is durable on disk."""

    iteration: int
    path: Path


@dataclass(frozen=True)
class Finished:
    """The adapter is in `output`. `metrics` has train_loss, val_loss, best_val_loss and
    best_iteration, and with a test split test_loss, perplexity (tuned) and base_perplexity.
    `iteration` is the last one done, fewer than Started's `iters` when `patience` ended the run.
    """

    iteration: int
    metrics: dict[str, float] = field(default_factory=dict)


TrainingEvent = Started | Stepped | Evaluated | Sampled | Checkpointed | Finished


# --------------------------------------------------------------------------- the backend


@runtime_checkable
class Backend(Protocol):
    """A way to compute. Constructing one is cheap; heavy imports happen in the methods."""

    name: str

    def device(self) -> DeviceInfo: ...

    def import_gguf(self, source: Path, target: Path) -> ImportedModel:
        """Write the GGUF file `source` into the empty folder `target` as an MLX model folder,
        in the type that is fast on this device. Raises UnsupportedModel."""
        ...

    def inspect(self, folder: Path) -> ImportedModel:
        """Describe an MLX model folder without loading its weights. Raises UnsupportedModel."""
        ...

    def quantize(self, base: Path, target: Path, bits: int, group_size: int) -> ImportedModel:
        """Write `base` quantized into the empty folder `target`. Raises UnsupportedModel."""
        ...

    def fuse(self, base: Path, adapter: Path, target: Path) -> ImportedModel:
        """Write `base` with `adapter` added to its weights into the empty folder `target`; a
        quantized base stays quantized. Raises UnsupportedModel."""
        ...

    def fidelity(
        self, base: Path, adapter: Path | None, converted: Path, rows: Path, most_tokens: int
    ) -> Fidelity:
        """Compare `base` with `adapter` (None: alone) to the folder `converted` on the first
        examples of the JSONL file `rows`, up to `most_tokens` judged tokens.

        Raises BadExample, UnsupportedModel, OutOfMemory.
        """
        ...

    def check_gguf(self, folder: Path) -> None:
        """Raises UnsupportedModel, with the reason, when `export_gguf` would refuse the model
        folder; reads no weights."""
        ...

    def export_gguf(self, folder: Path, target: Path) -> None:
        """Write the model folder as the GGUF file `target`, 16 bits a weight. Raises
        UnsupportedModel, with the reason, for models that GGUF or its writer cannot hold."""
        ...

    def examine(self, base: Path, data: Path, max_seq_length: int, sample: int) -> Examination:
        """Tokenize at most `sample` examples (0: all) of each split in the folder `data` as
        training on `base` would, with the prompt masked. Raises UnsupportedModel."""
        ...

    def memory_bytes(self) -> int | None:
        """Bytes that this process's arrays hold on the device now, whoever made them; None where
        nobody can say. May be called from any thread."""
        ...

    def load(
        self, base: Path, adapter: Path | None = None, options: LoadOptions = LoadOptions()
    ) -> LoadedModel:
        """Load a model folder for generation, warmed up. With `adapter` (of any type: DoRA and full
        ones cannot share a base) it is that fine-tune and nothing else: "no adapter" then means it.

        Raises UnsupportedModel, OutOfMemory.
        """
        ...

    def check_template(self, base: Path, data: Path, sample: int) -> None:
        """Render at most `sample` examples of each split of the folder `data` as training reads
        them and as a served model is asked; loads no weights.

        Raises TemplateMismatch, UnsupportedModel. A hostile template may never come to an end:
        call it where a process can be ended.
        """
        ...

    def run_lm_eval(
        self, base: Path, adapter: Path | None, tasks: Sequence[str], limit: int
    ) -> dict[str, dict[str, float]]:
        """Metrics by task of lm-eval, over at most `limit` examples each.

        Raises BackendError when a task is unknown or its data cannot be had.
        """
        ...

    def train(self, run: TrainingRun) -> Generator[TrainingEvent, None, None]:
        """Train step by step: the caller drives the generator and stops by closing it.

        The first event is Started, the last Finished. Closing it early first saves a checkpoint
        of the last step done. Raises BadExample, TrainingDiverged (naming the batch's examples),
        UnsupportedModel, OutOfMemory.
        """
        ...

    def compare_weights(self, one: Path, other: Path) -> dict[str, float]:
        """The largest absolute difference of each tensor of two safetensors files, by name; a
        tensor that only one of them has, or of another shape, differs by infinity."""
        ...

    def largest_weights(self, path: Path) -> dict[str, float]:
        """The largest absolute value of each tensor of a safetensors file, by name: what a
        difference of `compare_weights` is large or small beside."""
        ...
