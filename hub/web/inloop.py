"""Django's, django-structlog's and Prometheus's middleware without thread switches.

Django runs the hooks of synchronous middleware in another thread, in case they block: two thread
switches per hook, thirty per request, which cost more than the hooks. The middleware below only
reads and sets headers, so it runs on the event loop. What does block, saving a session, still runs
in a thread.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest, HttpResponseBase
from django.middleware import clickjacking, common, csp, csrf, security
from django_prometheus import middleware as prometheus
from django_structlog.middlewares import RequestMiddleware as StructlogMiddleware

log = structlog.get_logger("django_structlog.middlewares.request")


class InLoop:
    """Mixin for a middleware: its hooks run on the event loop."""

    get_response: Any
    async_mode: bool

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)  # type: ignore[call-arg]
        view = getattr(self, "process_view", None)
        if self.async_mode and view is not None:

            async def process_view(*arguments: Any) -> Any:
                return view(*arguments)

            self.__dict__["process_view"] = process_view

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        response = None
        if hasattr(self, "process_request"):
            response = self.process_request(request)
        response = response or await self.get_response(request)
        return await self.aprocess_response(request, response)

    async def aprocess_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        if hasattr(self, "process_response"):
            response = self.process_response(request, response)
        return response


class SecurityMiddleware(InLoop, security.SecurityMiddleware):
    pass


class ContentSecurityPolicyMiddleware(InLoop, csp.ContentSecurityPolicyMiddleware):
    pass


class CommonMiddleware(InLoop, common.CommonMiddleware):
    pass


class CsrfViewMiddleware(InLoop, csrf.CsrfViewMiddleware):
    pass


class AuthenticationMiddleware(InLoop, auth.AuthenticationMiddleware):
    """Safe on the event loop: the user is looked up lazily, not here."""


class MessageMiddleware(InLoop, messages.MessageMiddleware):
    pass


class XFrameOptionsMiddleware(InLoop, clickjacking.XFrameOptionsMiddleware):
    pass


class PrometheusBeforeMiddleware(InLoop, prometheus.PrometheusBeforeMiddleware):  # type: ignore[misc]
    pass


class PrometheusAfterMiddleware(InLoop, prometheus.PrometheusAfterMiddleware):  # type: ignore[misc]
    pass


class RequestMiddleware(StructlogMiddleware):
    """Binds the correlation ID and logs, neither of which blocks. The user is not looked up
    (DJANGO_STRUCTLOG_USER_ID_FIELD)."""

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        self.prepare(request)
        try:
            response = cast("HttpResponseBase", await cast("Any", self.get_response(request)))
        except asyncio.CancelledError:
            level = settings.DJANGO_STRUCTLOG_REQUEST_CANCELLED_LOG_LEVEL
            log.log(level, "request_cancelled")
            raise
        self.handle_response(request, response)
        return response


class SessionMiddleware(InLoop, sessions.SessionMiddleware):
    """A changed session is saved in a thread, because that writes to the database."""

    async def aprocess_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        if request.session.modified:
            save: Any = self.process_response
            return cast("HttpResponseBase", await sync_to_async(save)(request, response))
        return await super().aprocess_response(request, response)
