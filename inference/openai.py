"""The OpenAI-compatible API at `/v1`: what the `openai` client needs to list, chat and stream."""

from __future__ import annotations

import datetime
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import structlog
from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from inference.generation import answerer, aresolve, complete, generate
from inference.models import InferenceRequest
from inference.openai_schemas import ChatCompletionIn, Unsupported
from inference.protocol import Chunk, Done, Started
from inference.streaming import event_stream, frame
from registry.errors import HubError
from registry.resolve import Served, served_names

log = structlog.get_logger(__name__)
api = NinjaAPI(
    title="MLX Model Hub, OpenAI-compatible",
    version="1",
    description="Point the `openai` client's `base_url` here. Any `api_key` does on loopback.",
    urls_namespace="openai",
)
OPENAI = InferenceRequest.Api.OPENAI
Events = AsyncGenerator[Started | Chunk | Done]

# --------------------------------------------------------------------------- operations


@api.get("/models", summary="Every name that can be asked for")
async def models(request: HttpRequest) -> dict[str, Any]:
    names = await sync_to_async(served_names)()
    return {"object": "list", "data": [_model(name.label, name.created_at) for name in names]}


@api.get("/models/{path:name}", summary="One name")
async def model(request: HttpRequest, name: str) -> dict[str, Any]:
    served = await aresolve(name)
    return _model(name, (served.version or served.base).created_at)


@api.post(
    "/chat/completions",
    summary="Answer a chat, at once or as a stream",
    openapi_extra={
        "responses": {
            200: {
                "description": "A chat.completion, or with `stream` chat.completion.chunk events",
                "content": {"application/json": {}, "text/event-stream": {}},
            }
        }
    },
)
async def chat_completions(
    request: HttpRequest, payload: ChatCompletionIn
) -> HttpResponse | StreamingHttpResponse:
    payload.refuse_unsupported()
    served = await aresolve(payload.model)
    asked: dict[str, Any] = {
        "api": OPENAI,
        "requested_model": payload.model,
        "token": getattr(request, "token", None),
    }
    if payload.stream:
        events = generate(served, payload.chat(), payload.sampling(), streamed=True, **asked)
        # What goes wrong before the first event still is an ordinary error answer.
        first = await anext(events)
        assert isinstance(first, Started)
        return event_stream(_frames(served, payload, first, events))
    completion = await complete(served, payload.chat(), payload.sampling(), **asked)
    message = {"role": "assistant", "content": completion.text, "refusal": None}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": completion.done.finish_reason,
    }
    body = _head("chat.completion", completion.request_id, served)
    return JsonResponse({**body, "choices": [choice], "usage": _usage(completion.done)})


async def _frames(
    served: Served, payload: ChatCompletionIn, started: Started, events: Events
) -> AsyncGenerator[bytes]:
    head = _head("chat.completion.chunk", started.request_id, served)
    # With include_usage every chunk has the key, null but in the last.
    usage: dict[str, Any] = {"usage": None} if payload.include_usage else {}
    async with aclosing(events):
        yield frame({**head, "choices": [_delta({"role": "assistant", "content": ""})], **usage})
        try:
            async for event in events:
                if isinstance(event, Chunk):
                    yield frame({**head, "choices": [_delta({"content": event.text})], **usage})
                elif isinstance(event, Done):
                    yield frame({**head, "choices": [_delta({}, event.finish_reason)], **usage})
                    if payload.include_usage:
                        yield frame({**head, "choices": [], "usage": _usage(event)})
        except HubError as error:
            yield frame(_error(error.status, str(error), error.code))
            return
        yield frame("[DONE]")


# --------------------------------------------------------------------------- bodies


def _model(name: str, created: datetime.datetime) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(created.timestamp()),
        "owned_by": "mlx-model-hub",
    }


def _head(kind: str, request_id: str, served: Served) -> dict[str, Any]:
    row = served.version or served.base
    return {
        "id": f"chatcmpl-{request_id}",
        "object": kind,
        "created": int(time.time()),
        "model": answerer(served),
        "system_fingerprint": f"fp_{row.manifest_sha256[:12]}",  # these weights and no others
    }


def _delta(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _usage(done: Done) -> dict[str, int]:
    return {
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.completion_tokens,
        "total_tokens": done.prompt_tokens + done.completion_tokens,
    }


# --------------------------------------------------------------------------- errors


def _error(status: int, message: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    kind = {429: "rate_limit_error"}.get(status)
    kind = kind or ("server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@api.exception_handler(HubError)
def hub_error(request: HttpRequest, error: HubError) -> HttpResponse:
    status = 400 if error.status == 422 else error.status  # OpenAI knows no 422
    code = "model_not_found" if error.status == 404 else error.code
    param = error.param if isinstance(error, Unsupported) else None
    response = JsonResponse(_error(status, str(error), code, param), status=status)
    if (retry_after := getattr(error, "retry_after", None)) is not None:
        response["Retry-After"] = str(retry_after)
    return response


@api.exception_handler(ValidationError)
def validation_error(request: HttpRequest, error: ValidationError) -> HttpResponse:
    first = error.errors[0]
    param = ".".join(str(part) for part in first["loc"] if part not in ("body", "payload")) or None
    message = str(first["msg"]).removeprefix("Value error, ")
    if param:
        message = f"Invalid value for {param}: {message}."
    return JsonResponse(_error(400, message, "invalid_value", param), status=400)


@api.exception_handler(HttpError)
def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    body = _error(error.status_code, str(error), None)
    return JsonResponse(body, status=error.status_code)


@api.exception_handler(Http404)
def missing(request: HttpRequest, error: Http404) -> HttpResponse:
    return JsonResponse(_error(404, "There is nothing here.", "not_found"), status=404)


@api.exception_handler(Exception)
def unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
    log.error("request_failed", path=request.path, exc_info=error)
    correlation_id = structlog.contextvars.get_contextvars().get("correlation_id", "unknown")
    message = f"The hub failed at this; its log says why under the id {correlation_id}."
    return JsonResponse(_error(500, message, "internal"), status=500)
