"""The native API: generate, stream, and look at the engine and the request log."""

# No postponed annotations here: ninja's `paginate` evaluates them in its own module.

import datetime
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from ninja import Field, Query, Router, Schema
from ninja.pagination import paginate

from inference.client import aengine_stats
from inference.generation import answerer, aresolve, complete, generate
from inference.models import InferenceRequest
from inference.protocol import Chunk, Done, Started
from inference.schemas import InferenceIn, InferenceOut, done_out, error_out, event_out
from inference.streaming import event_stream, frame
from registry.errors import HubError
from registry.paging import LimitOffset
from registry.resolve import Served

router = Router(tags=["inference"])
NATIVE = InferenceRequest.Api.NATIVE

_STREAM_EXAMPLE = """event: started
data: {"event": "started", "request_id": "4b0f…", "answered_by": "calendar@0.1.0", "base_model": \
"SmolLM2-135M-Instruct", "prompt_tokens": 34, "queue_ms": 0.4}

event: delta
data: {"event": "delta", "text": "{\\"title\\""}

event: done
data: {"finish_reason": "stop", "prompt_tokens": 34, "completion_tokens": 12, "timings": \
{"queue_ms": 0.4, "first_token_ms": 130.2, "total_ms": 480.9, "tokens_per_second": 31.4}, \
"event": "done", "answered_by": "calendar@0.1.0"}
"""


@router.post("/inference", response=InferenceOut, summary="Generate an answer")
async def infer(request: HttpRequest, payload: InferenceIn) -> dict[str, Any]:
    """`model` is `NAME`, `NAME@1.2.0`, `NAME@alias` or `base:NAME`. A client that goes away
    stops the generation."""
    served = await aresolve(payload.model)
    completion = await complete(
        served,
        payload.chat(),
        payload.sampling(),
        api=NATIVE,
        requested_model=payload.model,
        token=getattr(request, "token", None),
    )
    return {
        "id": completion.request_id,
        "model": payload.model,
        "answered_by": answerer(served),
        "base_model": served.base.name,
        "text": completion.text,
        **done_out(completion.done),
    }


@router.post(
    "/inference/stream",
    summary="Generate an answer and stream it (SSE)",
    openapi_extra={
        "responses": {
            200: {
                "description": "Server-sent events: started, delta…, then done or error",
                "content": {"text/event-stream": {"example": _STREAM_EXAMPLE}},
            }
        }
    },
)
async def stream(request: HttpRequest, payload: InferenceIn) -> StreamingHttpResponse:
    """Events `started`, `delta` (as many as there are pieces), and `done` or `error`. What goes
    wrong before the first event is an ordinary error answer."""
    served = await aresolve(payload.model)
    events = generate(
        served,
        payload.chat(),
        payload.sampling(),
        api=NATIVE,
        requested_model=payload.model,
        streamed=True,
        token=getattr(request, "token", None),
    )
    return event_stream(_frames(served, await anext(events), events))


async def _frames(
    served: Served,
    first: Started | Chunk | Done,
    events: AsyncGenerator[Started | Chunk | Done],
) -> AsyncGenerator[bytes]:
    async with aclosing(events):
        yield _frame(event_out(served, first))
        try:
            async for event in events:
                yield _frame(event_out(served, event))
        except HubError as error:
            yield _frame(error_out(error))


def _frame(fields: dict[str, Any]) -> bytes:
    return frame(fields, event=fields["event"])


@router.get("/inference/engine", summary="What the engine holds and does")
async def engine(request: HttpRequest) -> dict[str, Any]:
    """Models in memory, rows that run and wait, tokens generated, memory and device."""
    return await aengine_stats()


class RequestOut(Schema):
    """One row of the request log. Times are milliseconds."""

    id: int
    request_id: str
    correlation_id: str
    api: str
    status: str
    requested_model: str
    version: Annotated[str | None, Field(description="What answered; null for a bare base")]
    base_model: str | None
    streamed: bool
    params: dict[str, Any]
    prompt_tokens: int
    completion_tokens: int
    queue_ms: float | None
    first_token_ms: float | None
    total_ms: float | None
    tokens_per_second: float | None
    finish_reason: str
    error: str
    created_at: datetime.datetime

    @staticmethod
    def resolve_version(row: InferenceRequest) -> str | None:
        return str(row.version) if row.version else None

    @staticmethod
    def resolve_base_model(row: InferenceRequest) -> str | None:
        return row.base_model.name if row.base_model else None


@router.get("/requests", response=list[RequestOut], summary="The request log, newest first")
@paginate(LimitOffset)
def requests(
    request: HttpRequest,
    q: Annotated[str, Query(description="Part of the model's name as it was asked for")] = "",
    status: InferenceRequest.Status | None = None,
    api: InferenceRequest.Api | None = None,
    version_id: int | None = None,
    correlation_id: str = "",
) -> QuerySet[InferenceRequest]:
    """Texts of prompts and answers are not part of it."""
    return InferenceRequest.objects.with_names().matching(
        q=q, status=status or "", api=api or "", version=version_id, correlation_id=correlation_id
    )
