"""One generation, whoever asks for it: through the engine, measured, traced and logged."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from backends.base import Message, Sampling
from inference.gateway import client
from inference.gateway.database import in_thread
from inference.gateway.record import Record, answerer, correlation_id, folders
from inference.models import ApiToken, InferenceRequest
from inference.protocol import Chunk, Count, Done, Embed, Queued, Started, TokenInfo
from registry.errors import HubError
from registry.promotion.resolve import Served, resolve

__all__ = ["answerer", "aresolve", "complete", "count_tokens", "embed", "folders", "generate"]
log = structlog.get_logger(__name__)
tracer = trace.get_tracer("hub.inference")
aresolve = in_thread(resolve)
EMBED_AT_ONCE = 32  # texts in one line to the engine, so that no line grows beyond reason


@dataclass(frozen=True)
class Completion:
    """A whole answer; `logprobs` has its tokens when they were asked for."""

    request_id: str
    text: str
    done: Done
    logprobs: list[TokenInfo] = field(default_factory=list)


@dataclass(frozen=True)
class Embeddings:
    """A vector of unit length for each text."""

    request_id: str
    vectors: list[list[float]]
    prompt_tokens: int


async def generate(
    served: Served,
    messages: Sequence[Message],
    sampling: Sampling,
    *,
    api: InferenceRequest.Api,
    requested_model: str,
    streamed: bool,
    token: ApiToken | None = None,
    text: str = "",
    tools: Sequence[dict[str, Any]] = (),
    deadline_s: float | None = None,
    forced_tools: Sequence[str] = (),
) -> AsyncGenerator[Started | Chunk | Done]:
    """Answer `messages`, or continue `text` when there are none: one Started, Chunks, one Done.
    Close it to stop (use `aclosing`).

    However it ends, it leaves one InferenceRequest, one span and its counts. Raises HubError.
    """
    record = Record(
        served,
        messages,
        sampling,
        api,
        requested_model,
        streamed,
        token,
        text,
        tools,
        deadline_s,
        forced_tools,
    )
    span = tracer.start_span("chat", kind=SpanKind.CLIENT, attributes=_asked(record, "chat"))
    try:
        async with aclosing(client.generate(record.request())) as events:
            async for event in events:
                if isinstance(event, Queued):
                    continue
                record.note(event)
                if isinstance(event, Done):
                    await record.write()  # whoever has the answer also finds its row
                yield event
    except Exception as error:
        _failed(record, error)
        raise
    finally:
        _end(span, record)
        await record.write()


async def complete(
    served: Served,
    messages: Sequence[Message],
    sampling: Sampling,
    *,
    api: InferenceRequest.Api,
    requested_model: str,
    token: ApiToken | None = None,
    text: str = "",
    tools: Sequence[dict[str, Any]] = (),
    deadline_s: float | None = None,
) -> Completion:
    """The whole answer at once. Raises HubError; being cancelled stops the engine's work too."""
    request_id = ""
    pieces: list[str] = []
    logprobs: list[TokenInfo] = []
    async with aclosing(
        generate(
            served,
            messages,
            sampling,
            api=api,
            requested_model=requested_model,
            streamed=False,
            token=token,
            text=text,
            tools=tools,
            deadline_s=deadline_s,
        )
    ) as events:
        async for event in events:
            if isinstance(event, Started):
                request_id = event.request_id
            elif isinstance(event, Chunk):
                pieces.append(event.text)
                logprobs += event.logprobs or []
            else:
                return Completion(request_id, "".join(pieces), event, logprobs)
    raise AssertionError("a generation ends with Done or an exception")


async def embed(
    served: Served,
    texts: Sequence[str],
    *,
    api: InferenceRequest.Api,
    requested_model: str,
    token: ApiToken | None = None,
) -> Embeddings:
    """A vector for each of `texts`; logged like a generation that writes no tokens.

    Raises HubError; being cancelled stops the engine's work too.
    """
    sampling = Sampling(max_tokens=0)
    record = Record(served, [], sampling, api, requested_model, streamed=False, token=token)
    span = tracer.start_span(
        "embeddings", kind=SpanKind.CLIENT, attributes=_asked(record, "embeddings")
    )
    base, adapter = folders(served)
    vectors: list[list[float]] = []
    try:
        for first in range(0, len(texts), EMBED_AT_ONCE):
            reply = await client.embed(
                Embed(
                    correlation_id=record.correlation_id,
                    base=base,
                    adapter=adapter,
                    texts=list(texts[first : first + EMBED_AT_ONCE]),
                    **record.asker(),
                )
            )
            vectors += reply["vectors"]
            record.prompt_tokens += reply["prompt_tokens"]
        record.status = InferenceRequest.Status.COMPLETED
    except Exception as error:
        _failed(record, error)
        raise
    finally:
        _end(span, record)
        await record.write()
    return Embeddings(record.request_id, vectors, record.prompt_tokens)


async def count_tokens(
    served: Served, messages: Sequence[Message], tools: Sequence[dict[str, Any]]
) -> int:
    """How many tokens a chat has before its answer. Raises HubError."""
    base, adapter = folders(served)
    request = Count(
        correlation_id=correlation_id(),
        base=base,
        adapter=adapter,
        messages=list(messages),
        tools=list(tools),
    )
    return await client.count(request)


def _failed(record: Record, error: Exception) -> None:
    record.fail(error)
    if not isinstance(error, HubError):
        log.exception("generation failed", request_id=record.request_id)


def _asked(record: Record, operation: str) -> dict[str, str | int | float]:
    # Names: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "mlx-model-hub",
        "gen_ai.request.model": record.requested_model,
        "gen_ai.request.max_tokens": record.sampling.max_tokens,
        "gen_ai.request.temperature": record.sampling.temperature,
        "gen_ai.request.top_p": record.sampling.top_p,
        "gen_ai.response.model": answerer(record.served),
        "gen_ai.response.id": record.request_id,
        "hub.api": record.api.value,
        "hub.correlation_id": record.correlation_id,
        "hub.base_model": record.served.base.name,
    }


def _end(span: Span, record: Record) -> None:
    """The Django instrumentation's span ends when a stream begins; this one ends with it."""
    span.set_attribute("hub.status", record.status.value)
    span.set_attribute("gen_ai.usage.input_tokens", record.prompt_tokens)
    if record.started is not None:
        span.set_attribute("hub.queue_ms", record.started.queue_ms)
    if record.done is not None:
        span.set_attribute("gen_ai.usage.output_tokens", record.done.completion_tokens)
        span.set_attribute("gen_ai.response.finish_reasons", [record.done.finish_reason])
        span.set_attribute("hub.first_token_ms", record.done.first_token_ms)
        span.set_attribute("hub.cached_tokens", record.done.cached_tokens)
    if record.status == InferenceRequest.Status.FAILED:
        span.set_status(Status(StatusCode.ERROR, record.error))
    span.end()
