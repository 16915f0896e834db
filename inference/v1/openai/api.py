"""The OpenAI-compatible API at `/v1`: models, chats, completions and embeddings.

`docs/openai.md` says what becomes of each parameter.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import structlog
from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from inference.gateway.answers import Events, answers, together
from inference.gateway.generation import answerer, aresolve, embed, generate
from inference.gateway.streaming import event_stream, frame
from inference.models import ApiToken, InferenceRequest
from inference.protocol import Called, Chunk, Done, Started, wasted
from inference.v1.anthropic import bodies as anthropic_bodies
from inference.v1.compatibility import Unsupported
from inference.v1.openai import bodies as openai_bodies
from inference.v1.openai.bodies import CHAT, TEXT, Frames, TextFrames, head
from inference.v1.openai.schemas import ChatCompletionIn, CompletionIn, EmbeddingIn, SampledIn
from registry.errors import HubError
from registry.promotion.resolve import Served, served_names

log = structlog.get_logger(__name__)
api = NinjaAPI(
    title="MLX Model Hub, OpenAI-compatible",
    version="1",
    description="Point the `openai` client's `base_url` here. Any `api_key` does on loopback.",
    urls_namespace="openai",
)
_STREAMED = {
    "responses": {
        200: {
            "description": "One JSON object, or with `stream` events that end with [DONE]",
            "content": {"application/json": {}, "text/event-stream": {}},
        }
    }
}
OPENAI = InferenceRequest.Api.OPENAI
Answered = HttpResponse | StreamingHttpResponse

# --------------------------------------------------------------------------- operations


@api.get("/models", summary="Every name that can be asked for")
async def models(request: HttpRequest) -> dict[str, Any]:
    names = await sync_to_async(served_names)()
    if "anthropic-version" in request.headers:
        return anthropic_bodies.models(names)
    return {"object": "list", "data": [openai_bodies.model(name) for name in names]}


@api.get("/models/{path:name}", summary="One name")
async def model(request: HttpRequest, name: str) -> dict[str, Any]:
    served = await aresolve(name)
    if "anthropic-version" in request.headers:
        return anthropic_bodies.model(served.name)
    return openai_bodies.model(served.name)


@api.post(
    "/chat/completions",
    summary="Answer a chat, at once or as a stream",
    openapi_extra=_STREAMED,
)
async def chat_completions(request: HttpRequest, payload: ChatCompletionIn) -> Answered:
    payload.refuse_unsupported()
    served = await aresolve(payload.model)
    chat, tools = payload.chat(), payload.callable_tools()
    rows = [
        generate(
            served,
            chat,
            payload.sampling(row),
            tools=tools,
            forced_tools=payload.forced_tools(),
            **_asked(request, payload),
        )
        for row in range(payload.rows)
    ]
    if payload.stream:
        return await _stream_chat(served, payload, rows)
    whole = await answers([rows])
    logprobs = bool(payload.logprobs)
    choices = [
        openai_bodies.chat_choice(
            index, answer, logprobs=logprobs, calls=_calls(payload, answer.ended)
        )
        for index, answer in enumerate(whole)
    ]
    usage = openai_bodies.usage([(i, a.ended) for i, a in enumerate(whole)], payload.rows)
    begun = whole[0].started
    assert begun is not None
    fields = head(CHAT, begun.request_id, served)
    return JsonResponse({**fields, "choices": choices, "usage": usage})


@api.post(
    "/completions",
    summary="Continue texts, at once or as a stream",
    openapi_extra=_STREAMED,
)
async def completions(request: HttpRequest, payload: CompletionIn) -> Answered:
    payload.refuse_unsupported()
    served = await aresolve(payload.model)
    prompts: list[list[Events]] = [
        [
            generate(served, [], payload.sampling(row), text=text, **_asked(request, payload))
            for row in range(payload.rows)
        ]
        for text in payload.prompts
    ]
    echoes = [text if payload.echo else "" for text in payload.prompts for _ in prompts[0]]
    if payload.stream:
        return await _stream_text(served, payload, prompts, echoes)
    whole = await answers(prompts)
    logprobs = payload.logprobs is not None
    choices = [
        openai_bodies.text_choice(index, answer, echo=echoes[index], logprobs=logprobs)
        for index, answer in enumerate(whole)
    ]
    usage = openai_bodies.usage([(i, a.ended) for i, a in enumerate(whole)], payload.rows)
    begun = whole[0].started
    assert begun is not None
    fields = head(TEXT, begun.request_id, served)
    return JsonResponse({**fields, "choices": choices, "usage": usage})


@api.post("/embeddings", summary="Vectors of texts")
async def embeddings(request: HttpRequest, payload: EmbeddingIn) -> dict[str, Any]:
    payload.refuse_unsupported()
    served = await aresolve(payload.model)
    embedded = await embed(
        served, payload.texts, api=OPENAI, requested_model=payload.model, token=_token(request)
    )
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(vector, payload)}
        for index, vector in enumerate(embedded.vectors)
    ]
    usage = {"prompt_tokens": embedded.prompt_tokens, "total_tokens": embedded.prompt_tokens}
    return {"object": "list", "data": data, "model": answerer(served), "usage": usage}


def _vector(vector: Sequence[float], payload: EmbeddingIn) -> Sequence[float] | str:
    if payload.encoding_format != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _asked(request: HttpRequest, payload: SampledIn) -> dict[str, Any]:
    return {
        "api": OPENAI,
        "requested_model": payload.model,
        "streamed": bool(payload.stream),
        "token": _token(request),
        "deadline_s": payload.deadline_s,
    }


def _token(request: HttpRequest) -> ApiToken | None:
    token: ApiToken | None = getattr(request, "token", None)
    return token


def _calls(payload: SampledIn, done: Done) -> list[Called]:
    one = isinstance(payload, ChatCompletionIn) and payload.parallel_tool_calls is False
    return done.tool_calls[:1] if one else done.tool_calls


# --------------------------------------------------------------------------- streams


async def _stream_chat(
    served: Served, payload: ChatCompletionIn, rows: list[Events]
) -> StreamingHttpResponse:
    events = together([rows])
    begun = await _begin(events)
    fields = head(CHAT, begun.request_id, served) | {"object": "chat.completion.chunk"}
    frames = Frames(fields, payload.rows, include_usage=payload.include_usage)
    return event_stream(_frames(frames, payload, events, payload.rows))


async def _stream_text(
    served: Served, payload: CompletionIn, prompts: list[list[Events]], echoes: list[str]
) -> StreamingHttpResponse:
    events = together(prompts)
    begun = await _begin(events)
    fields = head(TEXT, begun.request_id, served)
    frames = TextFrames(fields, len(echoes), include_usage=payload.include_usage, echoes=echoes)
    return event_stream(_frames(frames, payload, events, len(echoes)))


async def _begin(events: AsyncGenerator[tuple[int, Started | Chunk | Done]]) -> Started:
    """What goes wrong before the first event still is an ordinary error answer."""
    _, first = await anext(events)
    assert isinstance(first, Started)
    return first


async def _frames(
    frames: Frames,
    payload: SampledIn,
    events: AsyncGenerator[tuple[int, Started | Chunk | Done]],
    rows: int,
) -> AsyncGenerator[bytes]:
    ends: list[tuple[int, Done]] = []
    async with aclosing(events):
        for row in range(rows):
            for begun in frames.begin(row):
                yield begun
        try:
            async for row, event in events:
                if isinstance(event, Chunk):
                    yield frames.chunk(row, event)
                elif isinstance(event, Done):
                    ends.append((row, event))
                    for ended in frames.end(row, event, _calls(payload, event)):
                        yield ended
        except HubError as error:
            yield frame(_told(error))  # the last event, since the stream has begun already
            return
        if payload.include_usage:
            yield frames.usage(openai_bodies.usage(ends, payload.rows))
        yield frame("[DONE]")


# --------------------------------------------------------------------------- errors


@api.exception_handler(HubError)
def hub_error(request: HttpRequest, error: HubError) -> HttpResponse:
    response = JsonResponse(_told(error), status=_status(error))
    if (retry_after := getattr(error, "retry_after", None)) is not None:
        response["Retry-After"] = str(retry_after)
    return response


def _status(error: HubError) -> int:
    return 400 if error.status == 422 else error.status  # OpenAI knows no 422


def _told(error: HubError) -> dict[str, Any]:
    code = "model_not_found" if error.status == 404 else error.code
    param = error.param if isinstance(error, Unsupported) else None
    return openai_bodies.error(_status(error), str(error), code, param, **wasted(error))


@api.exception_handler(ValidationError)
def validation_error(request: HttpRequest, error: ValidationError) -> HttpResponse:
    param, message = invalid(error)
    return JsonResponse(openai_bodies.error(400, message, "invalid_value", param), status=400)


def invalid(error: ValidationError) -> tuple[str | None, str]:
    """The parameter of the first mistake, and what is wrong with it."""
    first = error.errors[0]
    param = ".".join(str(part) for part in first["loc"] if part not in ("body", "payload")) or None
    message = str(first["msg"]).removeprefix("Value error, ")
    return param, f"Invalid value for {param}: {message}." if param else message


@api.exception_handler(HttpError)
def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    body = openai_bodies.error(error.status_code, str(error), None)
    return JsonResponse(body, status=error.status_code)


@api.exception_handler(Http404)
def missing(request: HttpRequest, error: Http404) -> HttpResponse:
    body = openai_bodies.error(404, "There is nothing here.", "not_found")
    return JsonResponse(body, status=404)


@api.exception_handler(Exception)
def unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
    log.error("request_failed", path=request.path, exc_info=error)
    return JsonResponse(openai_bodies.error(500, unforeseen(), "internal"), status=500)


def unforeseen() -> str:
    """What a client is told of an error nobody thought of."""
    correlation_id = structlog.contextvars.get_contextvars().get("correlation_id", "unknown")
    return f"The hub failed at this; its log says why under the id {correlation_id}."
