"""Anthropic's Messages API at `/v1/messages`.

`docs/openai.md` says what happens to each parameter.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from ninja import NinjaAPI

from inference.gateway import generation
from inference.gateway.request import Caller
from inference.gateway.streaming import event_stream
from inference.models import InferenceRequest
from inference.v1.anthropic import bodies
from inference.v1.anthropic.schemas import CountIn, MessagesIn
from inference.v1.compatibility import Unsupported, unheld
from inference.v1.errors import answer_errors

# They differ in what Anthropic's own models take (sampling, documents); here both take the same.
VERSIONS = ("2023-06-01", "2026-10-21")
api = NinjaAPI(
    title="MLX Model Hub, Anthropic-compatible",
    version="1",
    urls_namespace="anthropic",
    docs_url=None,
    openapi_url=None,  # at `/v1` the OpenAI-compatible API has it
)
answer_errors(api, bodies.error)


@api.post("/messages", summary="Answer a chat, at once or as a stream")
async def messages(
    request: HttpRequest, payload: MessagesIn
) -> HttpResponse | StreamingHttpResponse:
    _check_version(request)
    wanted, caller = payload.request(), Caller.of(request, InferenceRequest.Api.ANTHROPIC)
    if payload.stream:
        stream = await generation.stream(wanted, caller)
        response = event_stream(stream, bodies.Events(stream))
        return payload.told(response, *unheld(stream.started.unheld))
    [answer] = await generation.generate(wanted, caller)
    return payload.told(JsonResponse(bodies.message(answer)), *unheld(answer.unheld))


@api.post("/messages/count_tokens", summary="Tokens of a prompt")
async def count(request: HttpRequest, payload: CountIn) -> HttpResponse:
    """As the model's template renders it, with system and tools; nothing is generated."""
    _check_version(request)
    payload.refuse_unsupported()
    tools, template = payload.callable_tools(), payload.template()
    counted = await generation.count_tokens(payload.model, payload.chat(), tools, template)
    return payload.told(JsonResponse({"input_tokens": counted}))


def _check_version(request: HttpRequest) -> None:
    version = request.headers.get("anthropic-version", VERSIONS[-1])
    if version not in VERSIONS:
        raise Unsupported(None, f"Unknown anthropic-version {version}; use {VERSIONS[-1]}.")
