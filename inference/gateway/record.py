"""What is known of an answer so far; becomes one row of the request log."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog
from django.conf import settings

from inference.gateway import metrics, rows
from inference.gateway.request import Caller, GenerationRequest, TokenPrompt
from inference.models import InferenceRequest
from inference.protocol import Chunk, Done, Generate, Read, Started, wasted
from registry import traces
from registry.promotion.resolve import Served


@dataclass
class Record:
    """One answer on its way. A client that disconnects makes it `cancelled`."""

    served: Served
    request: GenerationRequest
    caller: Caller
    index: int = 0  # of the request's answers
    streamed: bool = False
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    correlation_id: str = field(default_factory=lambda: correlation_id())
    status: InferenceRequest.Status = InferenceRequest.Status.CANCELLED
    error: str = ""
    outcome: str = "cancelled"  # as metrics have it
    code: str = ""  # of the error
    traceparent: str = ""
    started_at: float = field(default_factory=time.perf_counter)
    first_chunk_at: float | None = None
    last_chunk_at: float = 0.0
    started: Started | None = None
    done: Done | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0  # of an answer cut short: the pieces sent
    prompt_text: str = ""  # of a prompt that came as token ids
    chunks: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    written: bool = False

    def for_engine(self) -> Generate:
        return self.request.for_engine(
            self.served,
            self.index,
            request_id=self.request_id,
            correlation_id=self.correlation_id,
            traceparent=self.traceparent,
            deadline_s=self.request.deadline_s or settings.REQUEST_DEADLINE_S,
            cut_late=self.request.may_be_cut,
            **self.caller.limits(),
        )

    def note(self, event: Started | Read | Chunk | Done) -> None:
        if isinstance(event, Chunk):
            self.chunks.append(event.text)
            if event.thoughts:
                self.thoughts.append(event.thoughts)
            self.completion_tokens += 1
            self.last_chunk_at = time.perf_counter()
            if self.first_chunk_at is None:
                self.first_chunk_at = self.last_chunk_at
        elif isinstance(event, Started):
            self.started = event
            self.prompt_tokens = event.prompt_tokens
        elif isinstance(event, Read):
            self.prompt_text += event.text
        else:
            self.done = event
            self.prompt_tokens = event.prompt_tokens
            self.completion_tokens = event.completion_tokens
            self.complete()

    def complete(self) -> None:
        self.status, self.outcome = InferenceRequest.Status.COMPLETED, "completed"

    def fail(self, error: Exception) -> None:
        """Note why there is no whole answer, and what was computed until then."""
        self.status = InferenceRequest.Status.FAILED
        self.error = str(error) or type(error).__name__
        if written := wasted(error).get("failed_generation"):
            self.chunks = [written]
        for name in ("prompt_tokens", "completion_tokens"):
            setattr(self, name, getattr(error, name, 0) or getattr(self, name))
        self.outcome = metrics.outcome_of(error, self.completion_tokens)
        self.code = metrics.code_of(error)

    async def write(self) -> None:
        """Add the row and count it, once. A database that refuses does not cost the answer."""
        if self.written:
            return
        self.written = True
        metrics.count(*named(self.served), self._ended())
        # Shielded: a client that disconnects twice as fast must not lose its row.
        await asyncio.shield(rows.add(self.row()))

    def _ended(self) -> metrics.Ended:
        started, done = self.started, self.done
        tokens = {"prompt": self.prompt_tokens, "completion": self.completion_tokens}
        if done is not None:
            tokens["cached"] = done.cached_tokens
        return metrics.Ended(
            api=self.caller.api.value,
            outcome=self.outcome,
            code=self.code,
            duration_s=time.perf_counter() - self.started_at,
            queue_s=started.queue_ms / 1000 if started else None,
            first_token_s=self._first_token_s(),
            per_token_s=self._per_token_s(),
            tokens=tokens,
        )

    def _first_token_s(self) -> float | None:
        if self.done is not None:
            return self.done.first_token_ms / 1000 if self.completion_tokens else None
        return self.first_chunk_at and self.first_chunk_at - self.started_at

    def _per_token_s(self) -> float | None:
        if self.done is not None:
            return 1 / self.done.tokens_per_second if self.done.tokens_per_second else None
        if self.first_chunk_at is None or self.completion_tokens < 2:
            return None
        return (self.last_chunk_at - self.first_chunk_at) / (self.completion_tokens - 1)

    def row(self) -> InferenceRequest:
        """The row, not yet in the database."""
        request, done, token = self.request, self.done, self.caller.token
        row = InferenceRequest(
            request_id=self.request_id,
            correlation_id=self.correlation_id,
            trace_id=traces.trace_id(self.traceparent) or None,
            api=self.caller.api,
            status=self.status,
            requested_model=request.model,
            version=self.served.version,
            base_model=self.served.base,
            token=token,
            streamed=self.streamed,
            params=self._params(),
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            queue_ms=self.started.queue_ms if self.started else None,
            load_ms=(self.started.load_ms or None) if self.started else None,
            total_ms=round((time.perf_counter() - self.started_at) * 1000, 3),
            error=self.error,
            error_code=self.code or None,
        )
        if done is not None:
            row.cached_tokens = done.cached_tokens
            row.first_token_ms = done.first_token_ms
            row.tokens_per_second = done.tokens_per_second
            row.finish_reason = done.finish_reason
            row.thought_tokens = done.thought_tokens
        if settings.LOG_PROMPTS:
            prompt = request.prompt_of(self.index)
            row.prompt = self.prompt_text if isinstance(prompt, TokenPrompt) else prompt
            row.completion = "".join(self.chunks)
            row.thoughts = "".join(self.thoughts) or None
            row.tools = list(request.tools) or None
            row.tool_calls = (done.tool_calls or None) if done else None
        return row

    def _params(self) -> dict[str, Any]:
        """How the tokens were chosen, and the chat template's variables if there were any."""
        template = self.request.template
        said = {"template": dict(template)} if template else {}
        return {**asdict(self.request.sampling_of(self.index)), **said}


def named(served: Served) -> tuple[str, str]:
    """Model and version as metrics name them; a base model alone has no version."""
    if served.version is None:
        return f"base:{served.base.name}", ""
    return served.version.model.name, served.version.version


def correlation_id() -> str:
    """The id of the request being served; see hub.monitoring.correlation."""
    return str(structlog.contextvars.get_contextvars().get("correlation_id", ""))[:64]
