"""What clients of the native API and of the WebSocket get back."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from inference.gateway.answer import Answer, Stream
from inference.gateway.generation import Embeddings
from inference.gateway.request import answered_by
from inference.gateway.streaming import frame
from inference.protocol import Chunk, Done, Started, wasted
from registry.errors import HubError
from registry.promotion.resolve import Served


class EmbeddingsOut(BaseModel):
    """A vector for each text, and the version that computed them."""

    id: str
    model: str
    answered_by: str
    base_model: str
    embeddings: list[list[float]]
    prompt_tokens: int


class TimingsOut(BaseModel):
    """Milliseconds since the engine received the request, but for `prefill_ms` (from the place in
    the batch to the first token) and `per_token_ms` (between two tokens); the rate is decoding
    alone."""

    queue_ms: float
    prefill_ms: float
    first_token_ms: float
    per_token_ms: float | None
    total_ms: float
    tokens_per_second: float | None

    @classmethod
    def of(cls, done: Done) -> TimingsOut:
        rate = done.tokens_per_second
        return cls(
            queue_ms=done.queue_ms,
            prefill_ms=round(done.first_token_ms - done.queue_ms, 3),
            first_token_ms=done.first_token_ms,
            per_token_ms=round(1000 / rate, 3) if rate else None,
            total_ms=done.total_ms,
            tokens_per_second=rate,
        )


class CalledOut(BaseModel):
    """A tool call; `arguments` is JSON text."""

    name: str
    arguments: str


class TokenOut(BaseModel):
    """A token of the answer and its likeliest rivals, as (text, log-probability, bytes). All tokens'
    bytes, joined, are the answer's; half a character has U+FFFD in its text."""

    text: str
    bytes: list[int]
    logprob: float
    top: list[tuple[str, float, list[int]]]


class InferenceOut(BaseModel):
    """An answer, and the version that gave it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "4b0f5c0cf1d44b0b8b36cbb5a1a4a1f2",
                "model": "calendar",
                "answered_by": "calendar@0.1.0",
                "base_model": "SmolLM2-135M-Instruct",
                "text": '{"title": "Lunch with Ana"}',
                "finish_reason": "stop",
                "prompt_tokens": 34,
                "completion_tokens": 12,
                "timings": {
                    "queue_ms": 0.4,
                    "prefill_ms": 129.8,
                    "first_token_ms": 130.2,
                    "per_token_ms": 31.8,
                    "total_ms": 480.9,
                    "tokens_per_second": 31.4,
                },
            }
        }
    )

    id: str
    model: str
    answered_by: str
    base_model: str
    text: str
    thoughts: Annotated[str, Field(description="What the model thought before its answer")] = ""
    finish_reason: str
    prompt_tokens: int
    cached_tokens: Annotated[int, Field(description="Of the prompt, not computed again")] = 0
    completion_tokens: int
    thought_tokens: Annotated[int, Field(description="Of the completion's")] = 0
    tool_calls: Annotated[
        list[CalledOut], Field(description="Calls in the answer; `text` is the rest of it")
    ] = []
    labels: Annotated[
        list[tuple[str, float]],
        Field(description="Of a classification: each label's probability, the likeliest first"),
    ] = []
    logprobs: Annotated[list[TokenOut] | None, Field(description="When requested")] = None
    timings: TimingsOut


def inference(model: str, answer: Answer) -> dict[str, Any]:
    """A whole answer, as InferenceOut."""
    return {
        "id": answer.request_id,
        "model": model,
        **_who(answer.served),
        "text": answer.text,
        "thoughts": answer.thoughts,
        "logprobs": answer.logprobs or None,
        **_end(answer.done),
    }


def embeddings(model: str, made: Embeddings) -> dict[str, Any]:
    """As EmbeddingsOut."""
    return {
        "id": made.request_id,
        "model": model,
        **_who(made.served),
        "embeddings": made.vectors,
        "prompt_tokens": made.prompt_tokens,
    }


def started(served: Served, event: Started) -> dict[str, Any]:
    """The first event of a stream, and of an answer on the WebSocket."""
    return {
        "event": "started",
        "request_id": event.request_id,
        **_who(served),
        "prompt_tokens": event.prompt_tokens,
        "context_length": served.base.context_length,
        "queue_ms": event.queue_ms,
    }


def delta(chunk: Chunk) -> dict[str, Any]:
    logprobs = {} if chunk.logprobs is None else {"logprobs": chunk.logprobs}
    thoughts = {"thoughts": chunk.thoughts} if chunk.thoughts else {}
    calls = {"calls": chunk.calls} if chunk.calls else {}
    return {"event": "delta", "text": chunk.text, **thoughts, **calls, **logprobs}


def done(served: Served, event: Done) -> dict[str, Any]:
    return {**_end(event), "event": "done", "answered_by": answered_by(served)}


def failed(error: HubError) -> dict[str, Any]:
    """An error that comes after the answer has started."""
    return {"event": "error", "error": {"code": error.code, "message": str(error), **wasted(error)}}


def _who(served: Served) -> dict[str, str]:
    return {"answered_by": answered_by(served), "base_model": served.base.name}


def _end(event: Done) -> dict[str, Any]:
    """Why an answer ended, how many tokens it has, how fast it came."""
    return {
        "finish_reason": event.finish_reason,
        "prompt_tokens": event.prompt_tokens,
        "cached_tokens": event.cached_tokens,
        "completion_tokens": event.completion_tokens,
        "thought_tokens": event.thought_tokens,
        "tool_calls": event.tool_calls,
        "labels": event.labels,
        "timings": TimingsOut.of(event).model_dump(),
    }


class Events:
    """A stream as server-sent events."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def start(self) -> list[bytes]:
        return [_event(started(self._stream.served, self._stream.started))]

    def chunk(self, index: int, chunk: Chunk) -> bytes:
        return _event(delta(chunk))

    def end(self, index: int, event: Done) -> list[bytes]:
        return [_event(done(self._stream.served, event))]

    def finish(self) -> list[bytes]:
        return []

    def fail(self, error: HubError) -> bytes:
        return _event(failed(error))


def _event(fields: dict[str, Any]) -> bytes:
    return frame(fields, event=fields["event"])
