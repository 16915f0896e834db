"""One ID follows a request through all processes.

It comes from the client's `X-Correlation-ID` or is generated here, is added to every log line, and
is returned in the same header, over `/v1` also under the names that OpenAI's and Anthropic's clients
look for. The engine receives it in its messages, a training child in
`HUB_CORRELATION_ID` (see `hub.monitoring.logs`).
"""

from __future__ import annotations

import re
import uuid
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponseBase
from django_structlog import signals

HEADER = "X-Correlation-ID"
_OF_CLIENTS = ("x-request-id", "request-id")
EXPOSED = (HEADER, *_OF_CLIENTS)
_ACCEPTED = re.compile(
    r"[A-Za-z0-9._:-]{1,64}"
)  # it goes into logs, columns and environment variables


def connect() -> None:
    """Listen to django-structlog's middleware; connecting again does nothing."""
    signals.bind_extra_request_finished_metadata.connect(_answer, dispatch_uid="hub-answer")
    signals.update_failure_response.connect(_answer, dispatch_uid="hub-failure")


def current() -> str:
    """The current correlation ID, or an empty text."""
    return str(structlog.contextvars.get_contextvars().get("correlation_id", ""))


def choose(sent: str) -> str:
    """The client's ID if it is valid, else a new one."""
    return sent if _ACCEPTED.fullmatch(sent) else uuid.uuid4().hex


def bind(request: HttpRequest) -> None:
    structlog.contextvars.bind_contextvars(correlation_id=choose(request.headers.get(HEADER, "")))


def answer(request: HttpRequest, response: HttpResponseBase) -> None:
    names, here = EXPOSED if request.path.startswith("/v1/") else (HEADER,), current()
    for name in names:
        response[name] = here


def _answer(request: HttpRequest, response: HttpResponseBase, **kwargs: Any) -> None:
    answer(request, response)
