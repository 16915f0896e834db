"""The native API: an answer at once or streamed, and embeddings."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from django.http import HttpRequest, StreamingHttpResponse
from ninja import Router

from inference.gateway.generation import answerer, aresolve, complete, embed, generate
from inference.gateway.schemas import (
    EmbeddingsIn,
    EmbeddingsOut,
    InferenceIn,
    InferenceOut,
    done_out,
    error_out,
    event_out,
)
from inference.gateway.streaming import event_stream, frame
from inference.models import InferenceRequest
from inference.protocol import Chunk, Done, Started
from registry.errors import HubError
from registry.promotion.resolve import Served

router = Router(tags=["inference"])
NATIVE = InferenceRequest.Api.NATIVE

_STREAM_EXAMPLE = """event: started
data: {"event": "started", "request_id": "4b0f…", "answered_by": "calendar@0.1.0", "base_model": \
"SmolLM2-135M-Instruct", "prompt_tokens": 34, "queue_ms": 0.4}

event: delta
data: {"event": "delta", "text": "{\\"title\\""}

event: done
data: {"finish_reason": "stop", "prompt_tokens": 34, "completion_tokens": 12, "timings": \
{"queue_ms": 0.4, "prefill_ms": 129.8, "first_token_ms": 130.2, "per_token_ms": 31.8, \
"total_ms": 480.9, "tokens_per_second": 31.4}, "cached_tokens": 0, "tool_calls": [], \
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
        tools=payload.tools,
        deadline_s=payload.deadline_s,
    )
    return {
        "id": completion.request_id,
        "model": payload.model,
        "answered_by": answerer(served),
        "base_model": served.base.name,
        "text": completion.text,
        "logprobs": completion.logprobs or None,
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
        tools=payload.tools,
        deadline_s=payload.deadline_s,
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


@router.post("/inference/embeddings", response=EmbeddingsOut, summary="Vectors of texts")
async def embeddings(request: HttpRequest, payload: EmbeddingsIn) -> dict[str, Any]:
    """One vector of unit length for each text: the mean of the model's last hidden states."""
    served = await aresolve(payload.model)
    found = await embed(
        served,
        payload.texts(),
        api=NATIVE,
        requested_model=payload.model,
        token=getattr(request, "token", None),
    )
    return {
        "id": found.request_id,
        "model": payload.model,
        "answered_by": answerer(served),
        "base_model": served.base.name,
        "embeddings": found.vectors,
        "prompt_tokens": found.prompt_tokens,
    }
