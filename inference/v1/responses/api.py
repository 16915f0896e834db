"""OpenAI's Responses API at `/v1/responses`, a part of the OpenAI-compatible API.

`docs/openai.md` says what happens to each parameter.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from ninja import Router

from inference.gateway import generation
from inference.gateway.request import Caller
from inference.gateway.streaming import event_stream
from inference.models import InferenceRequest
from inference.v1.compatibility import unheld
from inference.v1.responses import bodies
from inference.v1.responses.events import Events
from inference.v1.responses.memory import memory
from inference.v1.responses.schemas import ResponseIn

router = Router()
_STREAMED = {
    "responses": {
        200: {
            "description": "One JSON object, or with `stream` events until response.completed, "
            "response.incomplete or response.failed",
            "content": {"application/json": {}, "text/event-stream": {}},
        }
    }
}


@router.post(
    "/responses",
    summary="Continue a conversation by a response, at once or as a stream",
    openapi_extra=_STREAMED,
)
async def respond(
    request: HttpRequest, payload: ResponseIn
) -> HttpResponse | StreamingHttpResponse:
    caller = Caller.of(request, InferenceRequest.Api.OPENAI)
    payload.recall(partial(memory.find, token=caller.token))
    wanted = payload.request()

    def keep(items: list[dict[str, Any]]) -> None:
        if payload.store is not False:
            memory.keep(items, caller.token)

    answer: HttpResponse | StreamingHttpResponse
    if payload.stream:
        stream = await generation.stream(wanted, caller)
        answer, loose = event_stream(stream, Events(stream, payload, keep)), stream.started.unheld
    else:
        [whole] = await generation.generate(wanted, caller)
        body = bodies.response(whole, payload)
        keep(body["output"])
        answer, loose = JsonResponse(body), list(whole.unheld)
    return payload.told(answer, *payload.passed_over(), *unheld(loose))
