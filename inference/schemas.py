"""What clients of the native API and of the WebSocket send, and what they get back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from backends.base import Message, Sampling
from inference.generation import answerer
from inference.protocol import Chunk, Done, Started
from registry.errors import HubError
from registry.resolve import Served

MAX_MESSAGES = 1000
DEFAULT_MAX_TOKENS = 512


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(max_length=1_000_000)]


class SamplingIn(BaseModel):
    """How tokens are chosen. Without any of it the answer is greedy and repeatable."""

    max_tokens: Annotated[int, Field(ge=1, le=131_072)] = DEFAULT_MAX_TOKENS
    temperature: Annotated[float, Field(ge=0, le=2, description="0 is greedy")] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0, description="0 is off")] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    seed: Annotated[int | None, Field(ge=0, lt=2**63)] = None
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=16)
    ] = []

    def sampling(self) -> Sampling:
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            seed=self.seed,
            stop=tuple(self.stop),
        )


class InferenceIn(SamplingIn):
    """Either `messages`, or `prompt` as a short form of one user message."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "model": "calendar",
                    "prompt": "Lunch with Ana next Friday at noon",
                    "max_tokens": 128,
                },
                {
                    "model": "calendar@0.1.0",
                    "messages": [{"role": "user", "content": "Dentist on May 3rd, 9:30"}],
                    "temperature": 0.7,
                    "seed": 1,
                },
            ]
        },
    )

    model: Annotated[str, Field(min_length=1, max_length=250)]
    messages: Annotated[list[ChatMessage], Field(max_length=MAX_MESSAGES)] = []
    prompt: Annotated[str | None, Field(min_length=1, max_length=1_000_000)] = None

    @model_validator(mode="after")
    def _one_of_both(self) -> InferenceIn:
        if bool(self.messages) == (self.prompt is not None):
            raise ValueError("send either messages or prompt")
        return self

    def chat(self) -> list[Message]:
        if self.prompt is not None:
            return [Message(role="user", content=self.prompt)]
        return [Message(role=m.role, content=m.content) for m in self.messages]


class TimingsOut(BaseModel):
    """Milliseconds since the engine received the request; the rate is decoding alone."""

    queue_ms: float
    first_token_ms: float
    total_ms: float
    tokens_per_second: float | None


class InferenceOut(BaseModel):
    """An answer and who gave it."""

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
                    "first_token_ms": 130.2,
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
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    timings: TimingsOut


def event_out(served: Served, event: Started | Chunk | Done) -> dict[str, Any]:
    """One event as the native stream and the WebSocket send it."""
    if isinstance(event, Chunk):
        return {"event": "delta", "text": event.text}
    if isinstance(event, Started):
        return {
            "event": "started",
            "request_id": event.request_id,
            "answered_by": answerer(served),
            "base_model": served.base.name,
            "prompt_tokens": event.prompt_tokens,
            "queue_ms": event.queue_ms,
        }
    return {**done_out(event), "event": "done", "answered_by": answerer(served)}


def done_out(done: Done) -> dict[str, Any]:
    """The end of an answer: why, how many tokens, how fast."""
    timings = TimingsOut(**{name: getattr(done, name) for name in TimingsOut.model_fields})
    return {
        "finish_reason": done.finish_reason,
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.completion_tokens,
        "timings": timings.model_dump(),
    }


def error_out(error: HubError) -> dict[str, Any]:
    """An error that comes when the answer has begun already."""
    return {"event": "error", "error": {"code": error.code, "message": str(error)}}
