"""One generation, whoever asks for it: through the engine, measured, traced and logged."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field

import structlog
from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from django.conf import settings
from django.db import DatabaseError
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from backends.base import Message, Sampling
from inference import client, metrics
from inference.models import ApiToken, InferenceRequest
from inference.protocol import Chunk, Done, Folder, Generate, Load, Queued, Started
from registry import paths
from registry.errors import HubError
from registry.resolve import Served, resolve

log = structlog.get_logger(__name__)
tracer = trace.get_tracer("hub.inference")
aresolve = sync_to_async(resolve)


@dataclass(frozen=True)
class Completion:
    """A whole answer."""

    request_id: str
    text: str
    done: Done


@dataclass
class _Record:
    """What is known of a generation so far; becomes one row of the request log."""

    served: Served
    messages: Sequence[Message]
    sampling: Sampling
    api: InferenceRequest.Api
    requested_model: str
    streamed: bool
    token: ApiToken | None
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    correlation_id: str = field(default_factory=lambda: _correlation_id())
    status: InferenceRequest.Status = InferenceRequest.Status.CANCELLED
    error: str = ""
    began: float = field(default_factory=time.perf_counter)
    started: Started | None = None
    done: Done | None = None
    chunks: list[str] = field(default_factory=list)
    written: bool = False

    def request(self) -> Generate:
        base, adapter = folders(self.served)
        return Generate(
            correlation_id=self.correlation_id,
            request_id=self.request_id,
            base=base,
            adapter=adapter,
            messages=list(self.messages),
            sampling=self.sampling,
        )

    def note(self, event: Started | Chunk | Done) -> None:
        if isinstance(event, Started):
            self.started = event
        elif isinstance(event, Chunk):
            self.chunks.append(event.text)
        else:
            self.done = event
            self.status = InferenceRequest.Status.COMPLETED

    def fail(self, error: Exception) -> None:
        self.status = InferenceRequest.Status.FAILED
        self.error = str(error) or type(error).__name__

    async def write(self) -> None:
        """Add the row and count it, once. A database that refuses does not cost the answer."""
        if self.written:
            return
        self.written = True
        self._count()
        try:
            # Shielded: a client that leaves twice as fast must not lose its row.
            await asyncio.shield(database_sync_to_async(self._row().save)())
        except DatabaseError:
            log.exception("request log not written", request_id=self.request_id)

    def _count(self) -> None:
        metrics.REQUESTS.labels(answerer(self.served), self.status.value, self.api.value).inc()
        if self.started is not None:
            metrics.TOKENS.labels("prompt").inc(self.started.prompt_tokens)
        if self.done is not None:
            metrics.TOKENS.labels("completion").inc(self.done.completion_tokens)
            metrics.FIRST_TOKEN.observe(self.done.first_token_ms / 1000)
            if self.done.tokens_per_second is not None:
                metrics.RATE.observe(self.done.tokens_per_second)

    def _row(self) -> InferenceRequest:
        row = InferenceRequest(
            request_id=self.request_id,
            correlation_id=self.correlation_id,
            api=self.api,
            status=self.status,
            requested_model=self.requested_model,
            version=self.served.version,
            base_model=self.served.base,
            token=self.token,
            streamed=self.streamed,
            params=asdict(self.sampling),
            prompt_tokens=self.started.prompt_tokens if self.started else 0,
            completion_tokens=len(self.chunks),  # of an answer cut short: the pieces sent
            queue_ms=self.started.queue_ms if self.started else None,
            total_ms=round((time.perf_counter() - self.began) * 1000, 3),
            error=self.error,
        )
        if self.done is not None:
            row.completion_tokens = self.done.completion_tokens
            row.first_token_ms = self.done.first_token_ms
            row.tokens_per_second = self.done.tokens_per_second
            row.finish_reason = self.done.finish_reason
        if settings.LOG_PROMPTS:
            row.prompt = list(self.messages)
            row.completion = "".join(self.chunks)
        return row


def _correlation_id() -> str:
    """The id of the request being served; see hub.correlation."""
    return str(structlog.contextvars.get_contextvars().get("correlation_id", ""))[:64]


def answerer(served: Served) -> str:
    """The exact name of what answers, `calendar@0.1.0` or `base:NAME`, whatever was asked for."""
    return str(served.version) if served.version else f"base:{served.base.name}"


def folders(served: Served) -> tuple[Folder, Folder | None]:
    """The base's and the adapter's folders, as the engine wants them."""
    base = Folder(
        path=paths.relative(served.base_path), manifest_sha256=served.base.manifest_sha256
    )
    if served.adapter_path is None or served.version is None:
        return base, None
    return base, Folder(
        path=paths.relative(served.adapter_path), manifest_sha256=served.version.manifest_sha256
    )


async def preload(served: Served) -> None:
    """Bring what `served` names into the engine's memory."""
    base, adapter = folders(served)
    await client.load(Load(correlation_id=_correlation_id(), base=base, adapter=adapter))


async def generate(
    served: Served,
    messages: Sequence[Message],
    sampling: Sampling,
    *,
    api: InferenceRequest.Api,
    requested_model: str,
    streamed: bool,
    token: ApiToken | None = None,
) -> AsyncGenerator[Started | Chunk | Done]:
    """Answer `messages`: one Started, Chunks, one Done. Close it to stop (use `aclosing`).

    However it ends, it leaves one InferenceRequest, one span and its counts. Raises HubError.
    """
    record = _Record(served, messages, sampling, api, requested_model, streamed, token)
    span = tracer.start_span("chat", kind=SpanKind.CLIENT, attributes=_asked(record))
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
        record.fail(error)
        if not isinstance(error, HubError):
            log.exception("generation failed", request_id=record.request_id)
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
) -> Completion:
    """The whole answer at once. Raises HubError; being cancelled stops the engine's work too."""
    request_id, text = "", []
    async with aclosing(
        generate(
            served,
            messages,
            sampling,
            api=api,
            requested_model=requested_model,
            streamed=False,
            token=token,
        )
    ) as events:
        async for event in events:
            if isinstance(event, Started):
                request_id = event.request_id
            elif isinstance(event, Chunk):
                text.append(event.text)
            else:
                return Completion(request_id, "".join(text), event)
    raise AssertionError("a generation ends with Done or an exception")


def _asked(record: _Record) -> dict[str, str | int | float]:
    # Names: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/
    return {
        "gen_ai.operation.name": "chat",
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


def _end(span: Span, record: _Record) -> None:
    """The Django instrumentation's span ends when a stream begins; this one ends with it."""
    span.set_attribute("hub.status", record.status.value)
    if record.started is not None:
        span.set_attribute("gen_ai.usage.input_tokens", record.started.prompt_tokens)
        span.set_attribute("hub.queue_ms", record.started.queue_ms)
    if record.done is not None:
        span.set_attribute("gen_ai.usage.output_tokens", record.done.completion_tokens)
        span.set_attribute("gen_ai.response.finish_reasons", [record.done.finish_reason])
        span.set_attribute("hub.first_token_ms", record.done.first_token_ms)
    if record.status == InferenceRequest.Status.FAILED:
        span.set_status(Status(StatusCode.ERROR, record.error))
    span.end()
