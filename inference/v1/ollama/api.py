"""Ollama's API at `/ollama`, and with HUB_OLLAMA_PORT at the root of a port of its own.

`docs/ollama.md` says what happens to each parameter.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from ninja import NinjaAPI

from inference.gateway import generation
from inference.gateway.client import aengine_stats
from inference.gateway.request import Caller
from inference.gateway.streaming import event_stream
from inference.models import InferenceRequest
from inference.v1.errors import answer_errors
from inference.v1.ollama import bodies, catalog, memory
from inference.v1.ollama.schemas import (
    AnswerIn,
    ChatIn,
    EmbedIn,
    GenerateIn,
    OneEmbeddingIn,
    ShowIn,
)
from registry.errors import HubError

LEVEL = "0.13.0"
"""The release of Ollama whose API this is; clients look at it before they use what is newer."""
OLLAMA = InferenceRequest.Api.OLLAMA
api = NinjaAPI(
    title="MLX Model Hub, Ollama-compatible",
    version="1",
    urls_namespace="ollama",
    docs_url=None,
    openapi_url=None,
)
answer_errors(api, bodies.error)
Answered = HttpResponse | StreamingHttpResponse
_READ = ["GET", "HEAD"]


class NotOffered(HubError):
    """What Ollama does with models, and the hub in other ways."""

    status = 501
    code = "not_offered"


@api.api_operation(_READ, "/", summary="Whether anyone is there")
async def alive(request: HttpRequest) -> HttpResponse:
    """In the words that clients look for."""
    return HttpResponse("Ollama is running", content_type="text/plain; charset=utf-8")


@api.api_operation(_READ, "/api/version", summary="The release of Ollama whose API this is")
async def version(request: HttpRequest) -> dict[str, str]:
    return {"version": LEVEL}


@api.api_operation(_READ, "/api/tags", summary="List the models")
async def tags(request: HttpRequest) -> dict[str, Any]:
    return {"models": await sync_to_async(catalog.tags)()}


@api.get("/api/ps", summary="Models in memory")
async def running(request: HttpRequest) -> dict[str, Any]:
    return {"models": await sync_to_async(catalog.running)(await aengine_stats())}


@api.post("/api/show", summary="Describe a model")
async def show(request: HttpRequest, payload: ShowIn) -> HttpResponse:
    payload.refuse_unsupported()
    return payload.told(JsonResponse(await sync_to_async(catalog.show)(payload.model)))


@api.post("/api/chat", summary="Answer a chat, at once or as a stream")
async def chat(request: HttpRequest, payload: ChatIn) -> Answered:
    if payload.only_loads:
        return await _loaded(request, payload, {"message": {"role": "assistant", "content": ""}})
    return await _answered(request, payload, bodies.ChatLines, bodies.chat)


@api.post("/api/generate", summary="Answer a prompt, at once or as a stream")
async def generate(request: HttpRequest, payload: GenerateIn) -> Answered:
    if payload.only_loads:
        return await _loaded(request, payload, {"response": ""})
    return await _answered(request, payload, bodies.GenerateLines, bodies.generate)


async def _answered(
    request: HttpRequest, payload: ChatIn | GenerateIn, lines: type[bodies.ChatLines], whole: Any
) -> Answered:
    wanted, caller = payload.request(), Caller.of(request, OLLAMA)
    keeping = await memory.Keeping.of(request, payload)
    await keeping.before()
    if payload.stream:
        stream = keeping.following(await generation.stream(wanted, caller))
        response = event_stream(stream, lines(payload.model), bodies.LINES)
        return payload.told(response, *keeping.ignored)
    [answer] = await generation.generate(wanted, caller)
    await keeping.after(answer.served)
    return payload.told(JsonResponse(whole(payload.model, answer)), *keeping.ignored)


async def _loaded(request: HttpRequest, payload: AnswerIn, said: dict[str, Any]) -> HttpResponse:
    payload.refuse_unsupported()
    reason, seconds = await memory.load_or_unload(request, payload)
    body = bodies.loaded(payload.model, said, reason, seconds)
    waits = payload.keep_alive is not None and payload.keep_alive > 0
    return payload.told(JsonResponse(body), *(["keep_alive"] if waits else []))


@api.post("/api/embed", summary="Vectors of texts")
async def embed(request: HttpRequest, payload: EmbedIn) -> HttpResponse:
    payload.refuse_unsupported()
    began = time.perf_counter()
    dimensions = payload.dimensions or None
    made, ignored = await _embedded(request, payload, payload.texts, dimensions)
    seconds = time.perf_counter() - began
    return payload.told(JsonResponse(bodies.embeddings(payload.model, made, seconds)), *ignored)


@api.post("/api/embeddings", summary="The vector of a text, in the older form")
async def embeddings(request: HttpRequest, payload: OneEmbeddingIn) -> HttpResponse:
    payload.refuse_unsupported()
    made, ignored = await _embedded(request, payload, [payload.prompt] if payload.prompt else [])
    vector = made.vectors[0] if made else []
    return payload.told(JsonResponse({"embedding": vector}), *ignored)


async def _embedded(
    request: HttpRequest,
    payload: EmbedIn | OneEmbeddingIn,
    texts: Sequence[str],
    dimensions: int | None = None,
) -> tuple[generation.Embeddings | None, tuple[str, ...]]:
    """Vectors, if there are texts, and the names of what was not heeded."""
    options = tuple(f"options.{name}" for name in payload.options.model_fields_set)
    if not texts:
        return None, options
    keeping = await memory.Keeping.of(request, payload)
    await keeping.before()
    caller = Caller.of(request, OLLAMA)
    made = await generation.embed(payload.named, texts, caller, dimensions)
    await keeping.after(made.served)
    return made, (*options, *keeping.ignored)


@api.api_operation(["GET", "HEAD", "POST", "DELETE"], "/api/{path:action}", summary="Not offered")
async def others(request: HttpRequest, action: str) -> HttpResponse:
    """Pulling, creating, copying and deleting: the hub has versions and data sets behind a model."""
    raise NotOffered(
        f"The hub does not offer {action[:50]} through Ollama's API: import base models and train, "
        "promote and remove versions on its own pages, with its commands or over its API at /api/."
    )
