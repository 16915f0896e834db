"""Anthropic's Messages API at `/v1/messages`.

`docs/openai.md` says what becomes of each parameter.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from inference.gateway.answers import Event, answers
from inference.gateway.generation import aresolve, count_tokens, generate
from inference.gateway.streaming import event_stream
from inference.models import InferenceRequest
from inference.protocol import Called, Chunk, Done, Started, wasted
from inference.v1.anthropic import bodies
from inference.v1.anthropic.bodies import Events
from inference.v1.anthropic.schemas import CountIn, MessagesIn
from inference.v1.compatibility import Unsupported
from inference.v1.openai.api import invalid, unforeseen
from registry.errors import HubError
from registry.promotion.resolve import Served

log = structlog.get_logger(__name__)
# They differ in what Anthropic's own models take (sampling, documents); here both take the same.
VERSIONS = ("2023-06-01", "2026-10-21")
api = NinjaAPI(
    title="MLX Model Hub, Anthropic-compatible",
    version="1",
    urls_namespace="anthropic",
    docs_url=None,
    openapi_url=None,  # at `/v1` the OpenAI-compatible API has it
)


@api.post("/messages", summary="Answer a chat, at once or as a stream")
async def messages(
    request: HttpRequest, payload: MessagesIn
) -> HttpResponse | StreamingHttpResponse:
    _check(request, payload)
    served = await aresolve(payload.model)
    events = generate(
        served,
        payload.chat(),
        payload.sampling(),
        api=InferenceRequest.Api.ANTHROPIC,
        requested_model=payload.model,
        streamed=bool(payload.stream),
        token=getattr(request, "token", None),
        tools=payload.callable_tools(),
        forced_tools=payload.forced_tools(),
    )
    if payload.stream:
        # What goes wrong before the first event still is an ordinary error answer.
        first = await anext(events)
        assert isinstance(first, Started)
        return event_stream(_frames(served, payload, first, events))
    [answer] = await answers([[events]])
    begun, done = answer.started, answer.ended
    assert begun is not None
    calls = _calls(payload, done)
    body = bodies.message(served, begun.request_id, answer.text, done, calls)
    return JsonResponse(body)


@api.post("/messages/count_tokens", summary="Tokens of a prompt")
async def count(request: HttpRequest, payload: CountIn) -> dict[str, int]:
    """As the model's template renders it, with system and tools; nothing is generated."""
    _check(request, payload)
    served = await aresolve(payload.model)
    return {"input_tokens": await count_tokens(served, payload.chat(), payload.callable_tools())}


async def _frames(
    served: Served, payload: MessagesIn, started: Started, events: AsyncGenerator[Event]
) -> AsyncGenerator[bytes]:
    stream = Events()
    async with aclosing(events):
        for begun in stream.begin(served, started):
            yield begun
        try:
            async for event in events:
                if isinstance(event, Chunk):
                    yield stream.text(event.text)
                elif isinstance(event, Done):
                    for ended in stream.end(event, _calls(payload, event)):
                        yield ended
        except HubError as error:
            yield bodies.failed(_told(error))


def _calls(payload: MessagesIn, done: Done) -> list[Called]:
    return done.tool_calls[:1] if payload.one_call_at_most else done.tool_calls


def _check(request: HttpRequest, payload: CountIn) -> None:
    """Raises Unsupported for another version of the API and for parameters not honoured."""
    version = request.headers.get("anthropic-version", VERSIONS[-1])
    if version not in VERSIONS:
        raise Unsupported(
            None, f"anthropic-version {version} is not known here; use {VERSIONS[-1]}."
        )
    payload.refuse_unsupported()


# --------------------------------------------------------------------------- errors


def _request_id() -> str:
    return str(structlog.contextvars.get_contextvars().get("correlation_id", "unknown"))


def _status(error: HubError) -> int:
    return 400 if error.status == 422 else error.status


def _told(error: HubError) -> dict[str, Any]:
    return bodies.error(_status(error), str(error), _request_id(), **wasted(error))


def _error(status: int, message: str) -> JsonResponse:
    return JsonResponse(bodies.error(status, message, _request_id()), status=status)


@api.exception_handler(HubError)
def hub_error(request: HttpRequest, error: HubError) -> HttpResponse:
    response = JsonResponse(_told(error), status=_status(error))
    if (retry_after := getattr(error, "retry_after", None)) is not None:
        response["Retry-After"] = str(retry_after)
    return response


@api.exception_handler(ValidationError)
def validation_error(request: HttpRequest, error: ValidationError) -> HttpResponse:
    _, message = invalid(error)
    return _error(400, message)


@api.exception_handler(HttpError)
def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    return _error(error.status_code, str(error))


@api.exception_handler(Exception)
def unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
    log.error("request_failed", path=request.path, exc_info=error)
    return _error(500, unforeseen())
