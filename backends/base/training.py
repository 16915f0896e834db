"""The config of a training run, and the events that it yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Learn = Literal["answers", "last_answer", "everything"]

SpecialTokens = Literal["text", "control"]

Thoughts = Literal["kept", "dropped", "masked", "as_written"]

Tools = Literal["in_words", "as_written"]

Arithmetic = Literal["masters", "earlier"]


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
        Literal["task", "none", "exact_match", "label", "json", "contains", "f1"],
        Field(
            description="How an answer is compared with the right one; task is what the model's "
            "task proposes, none asks nothing"
        ),
    ] = "task"
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
        Literal["sft", "dpo", "orpo", "simpo", "kto"],
        Field(
            description="Learn from answers, from chosen and rejected ones (dpo, orpo, simpo, kto), or "
            "from single ones with a label of good or bad (kto; sft learns the good ones alone)"
        ),
    ] = "sft"
    beta: Annotated[
        float,
        Field(gt=0, le=10, description="Weight of the preference in dpo, orpo, simpo and kto"),
    ] = 0.1
    gamma: Annotated[
        float,
        Field(ge=0, le=10, description="By how much simpo wants the chosen answer to be likelier"),
    ] = 0.5
    desirable_weight: Annotated[
        float, Field(ge=0, le=100, description="Weight of a good answer in kto")
    ] = 1.0
    undesirable_weight: Annotated[
        float, Field(ge=0, le=100, description="Weight of a bad answer in kto")
    ] = 1.0
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
    arithmetic: Annotated[
        Arithmetic,
        Field(
            description="How a step computes. masters: a full fine-tune of a 16-bit base steps "
            "float32 copies of the weights, so that no small update is rounded away, and a GPU pads "
            "batches to few shapes. earlier is how it was before this setting"
        ),
    ] = "masters"
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-4
    num_layers: Annotated[
        int, Field(ge=-1, description="Layers trained, counted from the top; -1 is all")
    ] = -1
    max_seq_length: Annotated[int, Field(ge=8, le=1_048_576, description="Tokens")] = 2048
    learn: Annotated[
        Learn,
        Field(
            description="The tokens that the loss counts: of every assistant message of a chat, of "
            "the last one, or all. Messages of weight 0 are left out, except by everything. Was "
            "mask_prompt, which is still accepted: true is last_answer, false is everything"
        ),
    ] = "answers"
    thoughts: Annotated[
        Thoughts,
        Field(
            description="What happens to the thoughts of answers (<think>…</think>, or the field "
            "reasoning_content): kept are learned, masked are read and not learned, dropped are left "
            "out. as_written is how it was before this setting: a field is left to the chat template"
        ),
    ] = "kept"
    special_tokens: Annotated[
        SpecialTokens,
        Field(
            description="What a special token of the base model is that was typed into a message to "
            "the assistant: text, as when the model is served, or a control token"
        ),
    ] = "text"
    tools: Annotated[
        Tools,
        Field(
            description="What the chat template does not know, tools and system messages: in_words "
            "writes them into the texts of the messages, as when the model is served. as_written is how "
            "it was before this setting: they are left to the template"
        ),
    ] = "in_words"
    lora: LoraConfig = LoraConfig()
    optimizer: Literal["adam", "adamw", "sgd", "muon", "adafactor"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    warmup: Annotated[int, Field(ge=0, description="Steps of linear warm-up")] = 5
    grad_clip: Annotated[float, Field(ge=0, description="Global norm limit; 0 is off")] = 1.0
    steps_per_eval: Annotated[int, Field(ge=1, description="Steps between validations")] = 50
    eval_examples: Annotated[
        int,
        Field(
            ge=0,
            description="Most examples of the validation split, and of the test split, that a loss is "
            "measured on, taken at even distances; 0 is all of them, as before this setting",
        ),
    ] = 500
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

    @classmethod
    def recorded(cls, config: Mapping[str, Any]) -> Self:
        """A configuration as a job or version recorded it, with what it meant then. Raises pydantic's
        ValidationError."""
        return cls.model_validate(as_recorded(config))

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        renamed = in_new_words(values)
        if "mask_prompt" in renamed:
            raise ValueError(
                "mask_prompt is the old name of learn; send learn alone, which is answers, "
                "last_answer or everything"
            )
        return renamed

    @model_validator(mode="after")
    def _settings_go_together(self) -> TrainingConfig:
        if self.epochs is None and self.warmup >= self.iters and self.warmup > 0:
            raise ValueError(
                f"warmup ({self.warmup}) must be smaller than iters ({self.iters}); "
                "lower warmup or train longer"
            )
        if self.packing and self.objective != "sft":
            raise ValueError(
                f"packing cannot be used with objective {self.objective}, which compares whole "
                "answers; switch packing off"
            )
        if self.objective == "kto" and self.batch_size < 2:
            raise ValueError(
                "objective kto compares the examples of a batch with each other; set batch_size to 2 "
                "or more"
            )
        return self


def in_new_words(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with today's names for settings that had others: `mask_prompt` true is `learn`
    "last_answer", false is "everything". One that cannot be understood stays as it is."""
    values = dict(config)
    masked = values.get("mask_prompt")
    if not isinstance(masked, bool):
        return values
    learn = "last_answer" if masked else "everything"
    if values.setdefault("learn", learn) == learn:
        del values["mask_prompt"]
    return values


def as_recorded(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that a job or version recorded, with what it meant then: before there were these
    settings, the last answer was learned, typed special tokens were control tokens, thoughts were no
    matter of their own, tools were left to the template, 16-bit weights were trained as they are, and
    losses were measured on all examples of a split."""
    then = {
        "learn": "last_answer",
        "special_tokens": "control",
        "thoughts": "as_written",
        "tools": "as_written",
        "arithmetic": "earlier",
        "eval_examples": 0,
    }
    return {**then, **in_new_words(config)}


@dataclass(frozen=True)
class TrainingRun:
    """One run. `data` holds train.jsonl, valid.jsonl and perhaps test.jsonl.

        `output` is an empty folder that receives `adapters.safetensors` and `adapter_config.json`.
        `checkpoints` survives the process: a run that finds a checkpoint there continues from it
        and ends with the same bytes as a run that was never interrupted. A preference objective reads
        examples with "prompt" (or "messages"), "chosen" and "rejected", and no others, but that kto
    also reads those with "prompt", "completion" and "label". `cache` is a folder for what a later
    run on the same data need not do again; without it nothing is kept. `budget_bytes` is what the
    process should hold at most.
    """

    base: Path
    data: Path
    output: Path
    checkpoints: Path
    config: TrainingConfig
    cache: Path | None = None
    budget_bytes: int | None = None


@dataclass(frozen=True)
class Tokenizing:
    """Progress of reading the data: `done` of `total` lines of a split. It shows that the process is
    alive, and the run may be stopped here. Comes before Started, and only where there is much to do.
    """

    split: str
    done: int
    total: int


@dataclass(frozen=True)
class Started:
    """The run is set up. `iteration` is 0, or the last one done before an interruption; `iters` is
    how many optimizer steps it will take at most (`epochs` is known only once the data is read).
    `notes` are sentences about answers that are not learned as the settings ask.
    """

    iteration: int
    iters: int
    trainable_parameters: int
    total_parameters: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stepped:
    """One optimizer step is done. Rates are over the last step; `train_loss` is its mean per token,
    per pair for dpo, orpo and simpo, per answer for kto."""

    iteration: int
    train_loss: float
    learning_rate: float
    grad_norm: float
    tokens: int  # target tokens that the loss counted
    tokens_per_second: float  # unpadded tokens through the model, per second
    peak_memory_bytes: int


@dataclass(frozen=True)
class Evaluating:
    """Progress of a long evaluation: `done` of `total` batches of a split. It shows that the process
    is alive, and the run may be stopped here."""

    iteration: int
    split: Literal["valid", "test"]
    done: int
    total: int


@dataclass(frozen=True)
class Evaluated:
    """Mean loss per target token (of preferences: per pair or answer) over a whole split. `adapter` False is the
    untouched base."""

    iteration: int
    split: Literal["valid", "test"]
    loss: float
    adapter: bool = True


@dataclass(frozen=True)
class Sampled:
    """The model's greedy answer to a prompt of the validation split."""

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
    best_iteration, and with a test split test_loss, perplexity (tuned) and base_perplexity; other
    objectives than sft add the margin and accuracy of each split, as val_margin and val_accuracy. All but
    train_loss are of the weights in `output`: with `restore_best`, those of best_iteration.
    `iteration` is the last one done, fewer than Started's `iters` when `patience` ended the run.
    """

    iteration: int
    metrics: dict[str, float] = field(default_factory=dict)


TrainingEvent = (
    Tokenizing | Started | Stepped | Evaluating | Evaluated | Sampled | Checkpointed | Finished
)
