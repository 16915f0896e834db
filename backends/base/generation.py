"""Requests, sampling, answers, and the loaded model that generates them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, NotRequired, Protocol, TypedDict, runtime_checkable

from backends.base.embedding import Pair, Question


class Message(TypedDict):
    """One chat message, as in the OpenAI API. An assistant's `tool_calls` and `reasoning_content` (what
    it thought before its answer) and a tool's `tool_call_id` and `name` are there only when they
    apply."""

    role: str
    content: str
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[dict[str, Any]]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]


GrammarKind = Literal["json_object", "json_schema", "regex", "lark"]


@dataclass(frozen=True)
class Grammar:
    """What an answer must look like, enforced token by token.

    `source` is a JSON schema (as JSON text), a regular expression or a Lark grammar; it is empty
    for `json_object`, any JSON object. A Lark grammar with a `mark` describes no whole answer but the
    text up to this mark and what follows it: the answer is free until it has the mark, and again from
    the grammar's end on, as often as that comes.
    """

    kind: GrammarKind
    source: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. `max_tokens` None continues to the end of the context (the request's deadline
    ends a model that never stops). `temperature` 0 is greedy; `seed` makes a draw repeatable.

    `repetition_penalty` divides (multiplies, when negative) the logits of tokens in the last
    `repetition_context` ones, prompt included; presence and frequency penalties are OpenAI's and
    look at the answer alone. `logit_bias` is (token, added to its logit). With `logprobs`, each
    step reports the `top_logprobs` most likely tokens. `max_kv_tokens` keeps a rotating window of
    that many tokens of context, 0 all of them. After `thinking_budget` tokens of thoughts the model
    has to close them and answer. A grammar waits for thoughts only where the model `may_think`: in a chat.
    """

    max_tokens: int | None = 256
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
    thinking_budget: int | None = None
    may_think: bool = True

    def most_tokens(self, room: int) -> int:
        """Of an answer that has `room` tokens of context left: at least one."""
        return max(1, room if self.max_tokens is None else min(self.max_tokens, room))


FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class TokenLogprob:
    """A candidate token. `text` is its own text, with U+FFFD for half a character, `data` the bytes
    that it adds to an answer (none when it ends it)."""

    token: int
    text: str
    logprob: float
    data: bytes = b""


@dataclass(frozen=True)
class PromptToken:
    """A token of a prompt, as TokenLogprob, and the likeliest ones at its place; the first token has
    no log-probability and no rivals, since nothing comes before it."""

    token: int
    text: str
    data: bytes
    logprob: float | None = None
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Delta:
    """What one decoding step added to one row. `text` may be empty (half a UTF-8 character).

    `piece` is the token's own text, `data` the bytes that it adds to the answer and `top` the
    likeliest tokens, likeliest first; all three only when the row asked for logprobs; else `logprob` may be 0. `stop` is the
    stop string that ended the row, if one did.
    """

    uid: str
    text: str
    token: int
    logprob: float
    finish_reason: FinishReason | None = None
    piece: str = ""
    top: tuple[TokenLogprob, ...] = ()
    stop: str = ""
    data: bytes = b""


@dataclass(frozen=True)
class ToolCall:
    """A call that an answer asks for. `arguments` is JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True)
class CallPiece:
    """More of the answer's call `number`, from 0 on: first its `name`, with which no arguments come,
    then its arguments, piece by piece."""

    number: int
    name: str
    arguments: str


class CallReader(Protocol):
    """Reads the calls of one answer while it comes."""

    def push(self, text: str) -> list[CallPiece]:
        """Add the next piece of the answer's words; what is now known of its calls. The pieces of each
        are the beginning of what `LoadedModel.parse_tool_calls` says in the end, unless it raises."""
        ...


@dataclass(frozen=True)
class ThoughtMarks:
    """Between which marks a model writes its thoughts, before the words of its answer; `opened` when
    the prompt ends with the opening one, `closed` when it ends with thoughts that are over. `words` is
    what it writes before an answer without thoughts, if anything."""

    open: str = "<think>"
    close: str = "</think>"
    words: str = ""
    opened: bool = False
    closed: bool = False


@dataclass(frozen=True)
class LoadOptions:
    """How a model is kept in memory.

    `cache_bytes` is the budget of the prefix cache, 0 for none; with `cache_dir` its entries outlive
    the process. `kv_bits` (4 or 8) quantizes keys and values of rows once they are `kv_after`
    tokens long. `draft` is the folder of a smaller model with the same tokenizer that proposes
    `draft_tokens` tokens at a time when a row runs alone; without one and with
    `prompt_lookup` tokens are guessed by what stands in the prompt and the answer. At most `unused_bytes` of freed buffers are
    kept, where that is less than the backend would, and the process should hold `budget_bytes`.
    """

    cache_bytes: int = 0
    cache_dir: Path | None = None
    kv_bits: int | None = None
    kv_after: int = 0
    draft: Path | None = None
    draft_tokens: int = 3
    prompt_lookup: bool = True
    unused_bytes: int | None = None
    budget_bytes: int | None = None


class Context(NamedTuple):
    """A row's tokens: of its prompt, and in the end."""

    prompt: int
    whole: int


class Guesses(NamedTuple):
    """Tokens since a model was loaded: proposed and `accepted`, by a draft model or by looking up, and
    those of grammars that took no choice and no step."""

    proposed: int = 0
    accepted: int = 0
    forced: int = 0


@dataclass(frozen=True)
class Memory:
    """Bytes that a loaded model holds, by kind. `contexts` are keys and values of running rows,
    `prefixes` those of earlier prompts; a draft model counts with the weights."""

    weights: int
    adapters: int
    contexts: int
    prefixes: int

    @property
    def total(self) -> int:
        return self.weights + self.adapters + self.contexts + self.prefixes


@runtime_checkable
class LoadedModel(Protocol):
    """One base model in memory, serving any of its adapters in one running batch.

    Every method is called from the one thread that loaded it.
    """

    @property
    def memory(self) -> Memory:
        """What weights, adapters and caches take now."""
        ...

    @property
    def nbytes(self) -> int:
        """All of `memory`."""
        ...

    @property
    def context_length(self) -> int: ...

    @property
    def guesses(self) -> Guesses:
        """How many tokens came without a step of their own."""
        ...

    @property
    def cache_bytes(self) -> int:
        """Bytes of `nbytes` that the prefix cache holds; they can be freed at any time."""
        ...

    def shrink_cache(self, most_bytes: int) -> None:
        """Drop least recently used prefixes until the cache holds at most `most_bytes`."""
        ...

    def limit_cache(self, most_bytes: int) -> None:
        """The same, and let it hold no more until the next call, within what it was loaded with."""
        ...

    def settle(self) -> None:
        """Prepare what later requests need and the first answer shall not wait for. Called once, while
        nothing runs."""
        ...

    def needed_for(self, contexts: Sequence[Context]) -> int:
        """Bytes that rows take in one batch when they have these contexts, an estimate: what
        `memory` will count then, and what the passes of the model need beside it."""
        ...

    def growth(self, tokens: int) -> int:
        """Bytes that the running rows take beside what `memory` counts while each writes so many more
        tokens, at most: caches grow by blocks."""
        ...

    def encode(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]] | None = None,
        template: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Token ids of the chat, rendered with the model's template and a generation prompt.
        `tools` are described to the template as JSON schemas; `template` are variables of its own,
        such as `enable_thinking`."""
        ...

    def thought_marks(self, prompt: Sequence[int]) -> ThoughtMarks:
        """How the answer to `prompt` marks its thoughts, if it has any."""
        ...

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a plain text, as a completion continues it."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a prompt that came as token ids."""
        ...

    def prompt_logprobs(
        self, prompt: Sequence[int], adapter: Path | None, top: int
    ) -> Iterator[list[PromptToken]]:
        """How likely the model finds each token of `prompt` after those before it, with the `top`
        likeliest ones; piece by piece, each of them one pass through the model.

        Raises PromptTooLong, and BackendError for a token that the model does not have.
        """
        ...

    def parse_tool_calls(
        self, text: str, tools: Sequence[dict[str, Any]]
    ) -> tuple[str, list[ToolCall]]:
        """(what is no call, the calls) of an answer, in the notation of the model's template, or in
        Hermes' where it knows none.

        Raises BackendError when the text begins a call that cannot be read.
        """
        ...

    def call_reader(self, tools: Sequence[dict[str, Any]]) -> CallReader | None:
        """What reads the calls of `tools` in an answer while it comes; None where the notation has them
        whole only."""
        ...

    def tool_grammar(
        self, tools: Sequence[dict[str, Any]], otherwise: Grammar | None = None
    ) -> Grammar:
        """The grammar of an answer that calls one of `tools` and contains nothing else, in the
        notation of the model's template. With `otherwise` an answer is either calls or what that
        grammar describes.

        Raises BackendError for a call that must come in a notation that is not known, or that has no
        way to write what a tool asks for.
        """
        ...

    def strict_grammar(self, tools: Sequence[dict[str, Any]]) -> tuple[Grammar | None, list[str]]:
        """(the grammar of an answer that may call `tools`, the names of strict ones whose arguments it
        does not hold). Text is free; a call that begins has the name of a tool, and arguments by its
        schema. None where no tool is strict, or no call can be enforced in the notation."""
        ...

    def embed(self, prompts: Sequence[Sequence[int]], adapter: Path | None) -> list[list[float]]:
        """One vector for each prompt: of unit length, and the mean of the last hidden states, where the
        model is not made for embeddings and says otherwise (see `Embedder`).

        Raises PromptTooLong, UnsupportedModel.
        """
        ...

    def needed_to_embed(self, prompts: Sequence[Sequence[int]]) -> int:
        """Bytes that `embed` takes for a while, an estimate."""
        ...

    def encode_pair(self, question: Question, text: str) -> Pair:
        """Token ids of a query and a text, as `relevances` reads them."""
        ...

    def relevances(self, pairs: Sequence[Pair], adapter: Path | None) -> list[float]:
        """How well each text answers its query, from 0 to 1: as the head of a reranker says, or by how
        likely a model that writes says yes.

        Raises PromptTooLong, and BackendError where the model cannot say it.
        """
        ...

    def needed_to_rank(self, pairs: Sequence[Pair]) -> int:
        """Bytes that `relevances` takes for a while, an estimate."""
        ...

    def likelihoods(
        self, prompt: Sequence[int], answers: Sequence[str], adapter: Path | None
    ) -> list[float]:
        """The log-probability of each of `answers` as the whole answer to `prompt`: summed over
        its tokens and those that end it, as training learns them. No sampling setting counts.

        Raises PromptTooLong, and BackendError for an answer that the template refuses.
        """
        ...

    def needed_for_answers(self, prompt: Sequence[int], answers: Sequence[str]) -> int:
        """Bytes that `likelihoods` takes for a while, an estimate. Raises as it does."""
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
