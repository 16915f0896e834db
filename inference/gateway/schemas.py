"""What clients of the native API and of the WebSocket send, and what they get back."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from backends.base import Grammar, Message, Sampling
from inference.gateway.generation import answerer
from inference.protocol import Chunk, Done, Started, wasted
from registry.errors import HubError
from registry.promotion.resolve import Served

MAX_MESSAGES = 1000
DEFAULT_MAX_TOKENS = 512


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant", "tool"]
    content: Annotated[str, Field(max_length=1_000_000)]
    tool_calls: Annotated[list[dict[str, Any]] | None, Field(max_length=128)] = None
    tool_call_id: Annotated[str | None, Field(max_length=200)] = None
    name: Annotated[str | None, Field(max_length=200)] = None

    def message(self) -> Message:
        """As backends read it."""
        return cast(Message, self.model_dump(exclude_none=True))


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
    repetition_penalty: Annotated[float, Field(gt=0, le=10, description="1 is off")] = 1.0
    repetition_context: Annotated[int, Field(ge=1, le=4096, description="Tokens")] = 64
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    logit_bias: Annotated[
        dict[int, Annotated[float, Field(ge=-100, le=100)]],
        Field(max_length=1024, description="Added to the logits of these tokens"),
    ] = {}
    logprobs: Annotated[bool, Field(description="Tell each token's log-probability")] = False
    top_logprobs: Annotated[int, Field(ge=0, le=20, description="And of its likeliest rivals")] = 0
    max_kv_tokens: Annotated[
        int, Field(ge=0, description="Keep a rotating window of so many tokens; 0 keeps all")
    ] = 0
    json_schema: Annotated[
        dict[str, Any] | None, Field(description="The answer is JSON that fits this schema")
    ] = None
    regex: Annotated[
        str | None, Field(min_length=1, max_length=10_000, description="The answer matches this")
    ] = None

    def sampling(self) -> Sampling:
        same = (f.name for f in fields(Sampling) if f.name in SamplingIn.model_fields)
        values = {name: getattr(self, name) for name in same}
        values |= {"stop": tuple(self.stop), "logit_bias": tuple(self.logit_bias.items())}
        return Sampling(**values, grammar=self._grammar())

    def _grammar(self) -> Grammar | None:
        if self.json_schema is not None:
            return Grammar("json_schema", json.dumps(self.json_schema))
        return Grammar("regex", self.regex) if self.regex is not None else None


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
    tools: Annotated[
        list[dict[str, Any]], Field(max_length=128, description="OpenAI's function descriptions")
    ] = []
    deadline_s: Annotated[
        float | None,
        Field(gt=0, le=86_400, description="Seconds after which the request is given up"),
    ] = None

    @model_validator(mode="after")
    def _one_of_each(self) -> InferenceIn:
        if bool(self.messages) == (self.prompt is not None):
            raise ValueError("send either messages or prompt")
        if self.json_schema is not None and self.regex is not None:
            raise ValueError("send either json_schema or regex")
        return self

    def chat(self) -> list[Message]:
        if self.prompt is not None:
            return [Message(role="user", content=self.prompt)]
        return [message.message() for message in self.messages]


class EmbeddingsIn(BaseModel):
    """Texts to be placed in the model's space."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(min_length=1, max_length=250)]
    input: Annotated[
        str | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=2048)],
        Field(min_length=1),
    ]

    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


class EmbeddingsOut(BaseModel):
    """A vector for each text, and who made them."""

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
    """A tool that the answer calls; `arguments` is JSON text."""

    name: str
    arguments: str


class TokenOut(BaseModel):
    """A token of the answer and its likeliest rivals, as (text, log-probability)."""

    text: str
    logprob: float
    top: list[tuple[str, float]]


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
    finish_reason: str
    prompt_tokens: int
    cached_tokens: Annotated[int, Field(description="Of the prompt, not computed again")] = 0
    completion_tokens: int
    tool_calls: Annotated[
        list[CalledOut], Field(description="What the answer calls; `text` is what stands beside")
    ] = []
    logprobs: Annotated[list[TokenOut] | None, Field(description="When they were asked for")] = None
    timings: TimingsOut


def event_out(served: Served, event: Started | Chunk | Done) -> dict[str, Any]:
    """One event as the native stream and the WebSocket send it."""
    if isinstance(event, Chunk):
        told = {} if event.logprobs is None else {"logprobs": event.logprobs}
        return {"event": "delta", "text": event.text, **told}
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
    return {
        "finish_reason": done.finish_reason,
        "prompt_tokens": done.prompt_tokens,
        "cached_tokens": done.cached_tokens,
        "completion_tokens": done.completion_tokens,
        "tool_calls": done.tool_calls,
        "timings": TimingsOut.of(done).model_dump(),
    }


def error_out(error: HubError) -> dict[str, Any]:
    """An error that comes when the answer has begun already."""
    return {"event": "error", "error": {"code": error.code, "message": str(error), **wasted(error)}}
