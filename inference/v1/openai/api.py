"""The OpenAI-compatible API at `/v1`: models, chats, completions and embeddings.

`docs/openai.md` says what happens to each parameter.
"""

from __future__ import annotations

import asyncio
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse

from inference.gateway import generation
from inference.gateway.request import Caller
from inference.gateway.streaming import event_stream
from inference.models import InferenceRequest
from inference.v1 import models as listing
from inference.v1.compatibility import unheld
from inference.v1.errors import answer_errors
from inference.v1.openai import bodies
from inference.v1.openai.schemas import ChatCompletionIn, CompletionIn, EmbeddingIn, ErrorOut
from registry.promotion.resolve import served_names
from registry.web.openapi import Described


class OpenAIAPI(Described):
    failure = ErrorOut


api = OpenAIAPI(
    title="MLX Model Hub, OpenAI-compatible",
    version="1",
    description="Point the `openai` client's `base_url` here. Any `api_key` works on loopback.",
    urls_namespace="openai",
)
answer_errors(api, bodies.error)
OPENAI = InferenceRequest.Api.OPENAI
Answered = HttpResponse | StreamingHttpResponse
_STREAMED = {
    "responses": {
        200: {
            "description": "One JSON object, or with `stream` events that end with [DONE]",
            "content": {"application/json": {}, "text/event-stream": {}},
        }
    }
}


@api.get("/models", summary="List the models")
async def models(request: HttpRequest) -> dict[str, Any]:
    return listing.listed(request, await sync_to_async(served_names)())


@api.get("/models/{path:name}", summary="One model")
async def model(request: HttpRequest, name: str) -> dict[str, Any]:
    return listing.one(request, (await generation.aresolve(name)).name)


@api.post(
    "/chat/completions",
    summary="Answer a chat, at once or as a stream",
    openapi_extra=_STREAMED,
)
async def chat_completions(request: HttpRequest, payload: ChatCompletionIn) -> Answered:
    wanted, caller = payload.request(), Caller.of(request, OPENAI)
    if payload.stream:
        stream = await generation.stream(wanted, caller)
        chunks = bodies.ChatChunks(stream, wanted, payload.include_usage)
        return payload.told(event_stream(stream, chunks), *unheld(stream.started.unheld))
    answers = await generation.generate(wanted, caller)
    response = JsonResponse(bodies.chat_completion(answers, wanted))
    return payload.told(response, *unheld(answers[0].unheld))


@api.post(
    "/completions",
    summary="Continue texts, at once or as a stream",
    openapi_extra=_STREAMED,
)
async def completions(request: HttpRequest, payload: CompletionIn) -> Answered:
    wanted, caller = payload.request(), Caller.of(request, OPENAI)
    echo = bool(payload.echo)
    if payload.stream:
        stream = await generation.stream(wanted, caller)
        texts = bodies.TextChunks(stream, wanted, payload.include_usage, echo)
        return payload.told(event_stream(stream, texts))
    answers = await generation.generate(wanted, caller)
    return payload.told(JsonResponse(bodies.text_completion(answers, wanted, echo)))


@api.post("/embeddings", summary="Vectors of texts")
async def embeddings(request: HttpRequest, payload: EmbeddingIn) -> HttpResponse:
    payload.refuse_unsupported()
    caller = Caller.of(request, OPENAI)
    texts = await asyncio.to_thread(payload.texts)  # tiktoken may have to load its table
    made = await generation.embed(
        payload.model, texts, caller, payload.dimensions, payload.prompt_name
    )
    body = bodies.embeddings(made, base64_encoded=payload.encoding_format == "base64")
    return payload.told(JsonResponse(body))
