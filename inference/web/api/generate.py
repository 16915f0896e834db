"""The native API: an answer at once or streamed, and embeddings."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, StreamingHttpResponse
from ninja import Router

from inference.gateway import generation
from inference.gateway.request import Caller
from inference.gateway.streaming import event_stream
from inference.models import InferenceRequest
from inference.native import bodies
from inference.native.bodies import EmbeddingsOut, InferenceOut
from inference.native.schemas import EmbeddingsIn, InferenceIn

router = Router(tags=["inference"])
NATIVE = InferenceRequest.Api.NATIVE

_STREAM_EXAMPLE = """event: started
data: {"event": "started", "request_id": "4b0f…", "answered_by": "calendar@0.1.0", "base_model": \
"SmolLM2-135M-Instruct", "prompt_tokens": 34, "context_length": 8192, "queue_ms": 0.4}

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
    """`model` is `NAME`, `NAME@1.2.0`, `NAME@alias` or `base:NAME`. Disconnecting stops the
    generation."""
    [answer] = await generation.generate(payload.request(), Caller.of(request, NATIVE))
    return bodies.inference(payload.model, answer)


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
    """Events `started`, `delta` (as many as there are pieces), and `done` or `error`. An error
    before the first event is an ordinary error answer. A `delta` may have `calls`, the pieces of a tool
    call: `{"number": 0, "name": "weather", "arguments": ""}`, then pieces of its arguments."""
    started = await generation.stream(payload.request(), Caller.of(request, NATIVE))
    return event_stream(started, bodies.Events(started))


@router.post("/inference/embeddings", response=EmbeddingsOut, summary="Vectors of texts")
async def embeddings(request: HttpRequest, payload: EmbeddingsIn) -> dict[str, Any]:
    """One vector of unit length for each text: the mean of the model's last hidden states."""
    made = await generation.embed(payload.model, payload.texts(), Caller.of(request, NATIVE))
    return bodies.embeddings(payload.model, made)
