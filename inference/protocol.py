"""The messages between the web side and the engine over the socket: JSON lines.

One connection carries one request. The client writes one line, the engine answers with lines
until `done` or `error` (or a single `reply`), and a client that closes the connection cancels
its request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from typing import Annotated, Any, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import from_json  # an eighth of the time that json takes for a token

from backends.base import FinishReason, Message, Sampling
from registry import errors
from registry.errors import HubError, TooManyRequests, Unavailable

MAX_LINE = 16 * 2**20  # bytes of one request or event; longer lines end the connection

# --------------------------------------------------------------------------- requests


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    correlation_id: str = ""
    traceparent: str = ""  # of the span that waits for it; empty: it is not traced


class Folder(BaseModel):
    """A folder of an artifact, relative to storage, and the sha256 its row recorded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    manifest_sha256: str = ""


class Generate(_Request):
    """Answer `messages`, or continue `text` or `tokens` when there are none, with the base model,
    changed by the adapter when there is one.

    `tools` are OpenAI's function descriptions, whose calls are enforced where one of them is strict, `template` variables of the chat template. Keys take turns: at most `key_running` requests
    of a `key` run and `key_waiting` wait at a time (None: no limit).
    One of `forced_tools` (names) must be called, if there are any.
    With `labels` the answer is the likeliest of them, whatever the sampling says, and its one
    piece's log-probability and rivals are those of whole labels.
    With `prompt_logprobs` the answer begins with the prompt's tokens, how likely they were, and that
    many of the likeliest ones at each place. After `deadline_s` seconds the request fails; with
    `cut_late` what is written until then, or until memory ends, is an answer that ended by its length.
    """

    op: Literal["generate"] = "generate"
    request_id: str
    base: Folder
    adapter: Folder | None = None
    messages: list[Message] = []
    text: str = ""
    tokens: list[int] = []
    prompt_logprobs: int | None = None
    tools: list[dict[str, Any]] = []
    template: dict[str, Any] = {}
    forced_tools: list[str] = []
    labels: list[str] = []
    sampling: Sampling
    key: str = ""
    key_running: int | None = None
    key_waiting: int | None = None
    deadline_s: float | None = None
    cut_late: bool = False


class Embed(_Request):
    """A vector for each of `texts`: `{"vectors": [[…]], "prompt_tokens": …}`; with a `query` one number
    each, how well the text answers it. It counts among what its `key` runs and waits for, as in
    Generate."""

    op: Literal["embed"] = "embed"
    base: Folder
    adapter: Folder | None = None
    texts: list[str]
    query: str | None = None
    instruction: str = ""
    key: str = ""
    key_running: int | None = None
    key_waiting: int | None = None


class Count(_Request):
    """How many tokens a chat has before its answer: `{"tokens": …}`."""

    op: Literal["count"] = "count"
    base: Folder
    adapter: Folder | None = None
    messages: list[Message]
    tools: list[dict[str, Any]] = []
    template: dict[str, Any] = {}


class Load(_Request):
    """Bring a base model (and an adapter) into memory, so that the next request need not wait.

    `pin` keeps it there, also over a restart of the engine (True), or no longer (False). Without
    `wait` the reply comes at once, and the statistics show the progress.
    """

    op: Literal["load"] = "load"
    base: Folder
    adapter: Folder | None = None
    pin: bool | None = None
    wait: bool = True


class Unload(_Request):
    """Give the memory of one idle base model back, or of all idle ones when `base` is None.

    With `adapter` it is a fine-tune that was loaded as a model of its own. Naming a pinned model
    takes its pin away; unloading all leaves pinned ones where they are. `gently` is for programs: it
    means the named model alone, without the fine-tunes that were loaded from it as models of their
    own, and leaves it where it is when it is pinned.
    """

    op: Literal["unload"] = "unload"
    base: Folder | None = None
    adapter: Folder | None = None
    gently: bool = False


class Stats(_Request):
    op: Literal["stats"] = "stats"


class Ping(_Request):
    op: Literal["ping"] = "ping"


Request = Generate | Embed | Count | Load | Unload | Stats | Ping
_REQUEST: TypeAdapter[Request] = TypeAdapter(
    Annotated[Generate | Embed | Count | Load | Unload | Stats | Ping, Field(discriminator="op")]
)


def encode_request(request: Request) -> bytes:
    return request.model_dump_json().encode() + b"\n"


def decode_request(line: bytes) -> Request:
    """Raises pydantic.ValidationError for anything that is not one of the requests."""
    return _REQUEST.validate_json(line)


# --------------------------------------------------------------------------- events


@dataclass(frozen=True)
class Started:
    """The prompt is in the batch. Times are milliseconds since the engine got the request; `load_ms` of
    them its model was loaded for it. `unheld` are the names of strict tools whose calls are not enforced."""

    request_id: str
    prompt_tokens: int
    queue_ms: float
    load_ms: float = 0.0
    unheld: list[str] = field(default_factory=list)
    event: Literal["started"] = "started"


class TokenInfo(TypedDict):
    """A token of the answer with its likeliest rivals: (text, log-probability, bytes). `text` has
    U+FFFD for half a character, `bytes` are the token's own; all tokens' bytes are the answer's."""

    text: str
    bytes: list[int]
    logprob: float
    top: list[tuple[str, float, list[int]]]


class ReadToken(TypedDict):
    """The same for a token of the prompt; the first one has no log-probability."""

    text: str
    bytes: list[int]
    logprob: float | None
    top: list[tuple[str, float, list[int]]]


@dataclass(frozen=True)
class Read:
    """The next tokens of the prompt with their log-probabilities, when these were requested, and in
    the first such event the prompt's whole text when it came as token ids."""

    text: str = ""
    logprobs: list[ReadToken] | None = None
    event: Literal["read"] = "read"


class Called(TypedDict):
    """A tool that the answer calls; `arguments` is JSON text."""

    name: str
    arguments: str


class CalledPiece(TypedDict):
    """More of the answer's call `number`, from 0 on: its `name` first, in a piece of its own, then its
    arguments. Joined they are the beginning of what Done has, or all of it."""

    number: int
    name: str
    arguments: str


@dataclass  # not frozen, of which there is one for each token: it would take thrice as long to make
class Chunk:
    """The next piece of the answer, or of the thoughts before it; `text` is empty when there are only
    logprobs, thoughts or pieces of calls to send.

    `logprobs` has an entry for each token of the answer since the last chunk, when they were requested.
    `calls` are pieces of tool calls, where the model writes their arguments as JSON; a call that is not
    in Done then was cut off, and its beginning is among the texts, too.
    """

    text: str
    logprobs: list[TokenInfo] | None = None
    thoughts: str = ""
    calls: list[CalledPiece] = field(default_factory=list)
    event: Literal["delta"] = "delta"

    @property
    def is_text(self) -> bool:
        """Whether there is nothing else in it."""
        return self.logprobs is None and not self.thoughts and not self.calls


@dataclass(frozen=True)
class Done:
    """The answer is complete. `tokens_per_second` is decoding alone, null for a single token;
    `cached_tokens` of the prompt were not computed again. With `tool_calls` the chunks held only
    what the answer says beside them, and the finish reason is "tool_calls", or "length" when the
    limit of tokens cut a further call, whose beginning is among the chunks. `stop` is the stop
    string that ended it, if one did. `labels` are those of the request with their probabilities,
    which sum to 1, the likeliest first. `thought_tokens` of the completion's were thoughts.
    """

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    queue_ms: float
    first_token_ms: float
    total_ms: float
    tokens_per_second: float | None
    cached_tokens: int = 0
    tool_calls: list[Called] = field(default_factory=list)
    stop: str = ""
    labels: list[tuple[str, float]] = field(default_factory=list)
    thought_tokens: int = 0
    event: Literal["done"] = "done"


@dataclass(frozen=True)
class Failed:
    """The request ends here. `status` is the HTTP status that says the same; the tokens are those
    read and written until then."""

    code: str
    message: str
    status: int
    retry_after: int | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failed_generation: str = ""  # what the model wrote, when that is what is wrong
    event: Literal["error"] = "error"


@dataclass(frozen=True)
class Reply:
    """The whole answer to anything but `generate`."""

    data: dict[str, Any]
    event: Literal["reply"] = "reply"


Event = Started | Read | Chunk | Done | Failed | Reply
_EVENTS: dict[str, type[Event]] = {
    kind.event: kind for kind in (Started, Read, Chunk, Done, Failed, Reply)
}


# One for all: to make an encoder for each event, and to copy its fields, took longer than to encode it.
_as_json = json.JSONEncoder(ensure_ascii=False).encode


def encode_event(event: Event) -> bytes:
    """An object; a piece of text alone, as nearly all are, is a JSON string."""
    if isinstance(event, Chunk) and event.is_text:
        return f"{encode_basestring(event.text)}\n".encode()
    return _as_json(vars(event)).encode() + b"\n"


def decode_event(line: bytes) -> Event:
    """Raises ValueError, KeyError or TypeError for a line no engine of this release writes."""
    read = from_json(line)
    return Chunk(read) if isinstance(read, str) else _EVENTS[read["event"]](**read)


# --------------------------------------------------------------------------- errors


class EngineFailure(HubError):
    """An error of the engine that has no class of its own on this side."""


class DeadlineExceeded(HubError):
    """The request missed its deadline."""

    status = 504
    code = "deadline_exceeded"


class ToolUseFailed(HubError):
    """The answer has a tool call that cannot be parsed; `failed_generation` is all that it says.

    Status, code and the field's name are Groq's. Not 500: clients retry those
    automatically, and a greedy model would only write the same again.
    """

    status = 400
    code = "tool_use_failed"

    def __init__(self, message: str, failed_generation: str = "") -> None:
        super().__init__(message)
        self.failed_generation = failed_generation


def wasted(error: Exception) -> dict[str, str]:
    """What the model wrote before it failed, as every API sends it beside the error; often {}."""
    written = getattr(error, "failed_generation", "")
    return {"failed_generation": written} if written else {}


_BY_CODE: dict[str, type[HubError]] = {
    kind.code: kind
    for kind in (
        errors.Invalid,
        errors.NotFound,
        errors.Conflict,
        errors.TooManyRequests,
        errors.Unavailable,
        errors.Damaged,
        DeadlineExceeded,
        ToolUseFailed,
    )
}


def to_failed(error: HubError) -> Failed:
    retry_after = getattr(error, "retry_after", None)
    written = wasted(error).get("failed_generation", "")
    return Failed(error.code, str(error), error.status, retry_after, failed_generation=written)


def to_error(failed: Failed) -> HubError:
    """The exception that the engine's error stands for, with the tokens counted until then."""
    kind = _BY_CODE.get(failed.code)
    error: HubError
    if kind is not None and issubclass(kind, TooManyRequests | Unavailable):
        error = kind(failed.message, failed.retry_after or 5)
    elif kind is ToolUseFailed:
        error = ToolUseFailed(failed.message, failed.failed_generation)
    elif kind is not None:
        error = kind(failed.message)
    else:
        error = EngineFailure(failed.message)
        error.code, error.status = failed.code, failed.status
    counted = ("prompt_tokens", "completion_tokens")
    vars(error).update({name: getattr(failed, name) for name in counted})
    return error
