"""What is known of a generation so far; becomes one row of the request log."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError

from backends.base import Message, Sampling
from inference.gateway import metrics
from inference.gateway.database import in_thread
from inference.models import ApiToken, InferenceRequest
from inference.protocol import Chunk, Done, Folder, Generate, Started, wasted
from registry.promotion.resolve import Served
from registry.storage import paths

log = structlog.get_logger(__name__)


@dataclass
class Record:
    """One request, from whoever asked. A client that leaves makes it `cancelled`."""

    served: Served
    messages: Sequence[Message]
    sampling: Sampling
    api: InferenceRequest.Api
    requested_model: str
    streamed: bool
    token: ApiToken | None
    text: str = ""  # to continue, in place of messages
    tools: Sequence[dict[str, Any]] = ()
    deadline_s: float | None = None
    forced_tools: Sequence[str] = ()
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    correlation_id: str = field(default_factory=lambda: correlation_id())
    status: InferenceRequest.Status = InferenceRequest.Status.CANCELLED
    error: str = ""
    began: float = field(default_factory=time.perf_counter)
    started: Started | None = None
    done: Done | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0  # of an answer cut short: the pieces sent
    chunks: list[str] = field(default_factory=list)
    written: bool = False

    def request(self) -> Generate:
        """What the engine is asked."""
        base, adapter = folders(self.served)
        return Generate(
            correlation_id=self.correlation_id,
            request_id=self.request_id,
            base=base,
            adapter=adapter,
            messages=list(self.messages),
            text=self.text,
            tools=list(self.tools),
            forced_tools=list(self.forced_tools),
            sampling=self.sampling,
            **self.asker(),
            deadline_s=self.deadline_s or settings.REQUEST_DEADLINE_S,
        )

    def asker(self) -> dict[str, Any]:
        """Whose request the engine is to count it as, and that key's limits."""
        if self.token is None:
            return {}
        return {
            "key": str(self.token.pk),
            "key_running": self.token.max_running,
            "key_waiting": self.token.max_waiting,
        }

    def note(self, event: Started | Chunk | Done) -> None:
        if isinstance(event, Started):
            self.started = event
            self.prompt_tokens = event.prompt_tokens
        elif isinstance(event, Chunk):
            self.chunks.append(event.text)
            self.completion_tokens += 1
        else:
            self.done = event
            self.prompt_tokens = event.prompt_tokens
            self.completion_tokens = event.completion_tokens
            self.status = InferenceRequest.Status.COMPLETED

    def fail(self, error: Exception) -> None:
        """Note why there is no whole answer, and what was computed until then."""
        self.status = InferenceRequest.Status.FAILED
        self.error = str(error) or type(error).__name__
        if written := wasted(error).get("failed_generation"):
            self.chunks = [written]
        for name in ("prompt_tokens", "completion_tokens"):
            setattr(self, name, getattr(error, name, 0) or getattr(self, name))

    async def write(self) -> None:
        """Add the row and count it, once. A database that refuses does not cost the answer."""
        if self.written:
            return
        self.written = True
        self._count()
        try:
            # Shielded: a client that leaves twice as fast must not lose its row.
            await asyncio.shield(in_thread(self._save)())
        except DatabaseError:
            log.exception("request log not written", request_id=self.request_id)

    def _save(self) -> None:
        self._row().save()
        if self.token is not None:
            self.token.count(self.prompt_tokens, self.completion_tokens)

    def _count(self) -> None:
        metrics.REQUESTS.labels(answerer(self.served), self.status.value, self.api.value).inc()
        metrics.TOKENS.labels("prompt").inc(self.prompt_tokens)
        metrics.TOKENS.labels("completion").inc(self.completion_tokens)
        if self.started is not None:
            metrics.QUEUE.observe(self.started.queue_ms / 1000)
        if self.done is not None:
            metrics.TOKENS.labels("cached").inc(self.done.cached_tokens)
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
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            queue_ms=self.started.queue_ms if self.started else None,
            total_ms=round((time.perf_counter() - self.began) * 1000, 3),
            error=self.error,
        )
        if self.done is not None:
            row.cached_tokens = self.done.cached_tokens
            row.first_token_ms = self.done.first_token_ms
            row.tokens_per_second = self.done.tokens_per_second
            row.finish_reason = self.done.finish_reason
        if settings.LOG_PROMPTS:
            row.prompt = list(self.messages) or self.text
            row.completion = "".join(self.chunks)
            row.tools = list(self.tools) or None
            row.tool_calls = (self.done.tool_calls or None) if self.done else None
        return row


def correlation_id() -> str:
    """The id of the request being served; see hub.monitoring.correlation."""
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
