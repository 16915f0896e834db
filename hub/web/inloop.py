"""Django's, django-structlog's and Prometheus's middleware without thread switches.

Django runs the hooks of synchronous middleware in another thread, in case they block: two thread
switches per hook, thirty per request, which cost more than the hooks. The middleware below only
reads and sets headers, so it runs on the event loop. What does block, saving a session, still runs
in a thread. So does a view that is no coroutine; an answer's stream, which is one, then needs no thread
of its own at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection
from contextlib import aclosing
from typing import Any, Literal, cast

import structlog
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.contrib.auth import middleware as auth
from django.contrib.messages import get_messages
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware import clickjacking, common, csp, csrf, security
from django.urls import set_script_prefix
from django_htmx.http import trigger_client_event
from django_prometheus import middleware as prometheus
from django_structlog.middlewares import RequestMiddleware as StructlogMiddleware

from hub.monitoring import correlation, telemetry
from hub.web import later
from hub.web.later import Asgi
from hub.web.refusal import is_api
from inference.gateway.streaming import EventStream

_plain = logging.getLogger("django_structlog.middlewares.request")
log = structlog.get_logger(_plain.name)
_MOST_SERIES = 2000


OF_PAGES = (
    "hub.web.middleware.StaticFilesMiddleware",
    "hub.web.inloop.CsrfViewMiddleware",
    "hub.web.inloop.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
)
"""What does nothing for a compatible API: files, forms, sign-ins and what htmx asks."""


def by_path(apis: Asgi, pages: Asgi) -> Asgi:
    """One application of two: the compatible APIs, and all else."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await (apis if scope["path"].startswith(later.AT_ONCE) else pages)(scope, receive, send)

    return answer


class Handler(ASGIHandler):
    """Django's handler, which sends its two signals and closes each response in the request's own thread,
    since a view that ran there left a database connection in it. That starts two threads (asgiref
    starts another to wait for the first) for requests that need none. Here a thread is started by what
    blocks, and the response is closed where the view ran.
    """

    def __init__(self, without: Collection[str] = ()) -> None:
        """`without` some of the settings' middleware."""
        self._without = without
        super().__init__()

    def load_middleware(self, is_async: bool = False) -> None:
        every = settings.MIDDLEWARE
        settings.MIDDLEWARE = [name for name in every if name not in self._without]
        try:
            super().load_middleware(is_async)
        finally:
            settings.MIDDLEWARE = every

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """As Django 6.0's, but for the thread."""
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        set_script_prefix(get_script_prefix(scope))
        try:
            # What listens forgets queries and connections of this thread, which has none.
            signals.request_started.send(sender=self.__class__, scope=scope)
            request, refused = self.create_request(scope, body)
            if request is None:
                refusal = cast("HttpResponseBase", refused)
                await self.send_response(refusal, send)
                await _close(refusal)
            else:
                await self._respond(request, receive, send)
        finally:
            body.close()

    async def _respond(self, request: Any, receive: Any, send: Any) -> None:
        async def respond() -> HttpResponseBase:
            response = await self.run_get_response(request)
            telemetry.name_request(request)
            try:
                await self.send_response(response, send)
            except asyncio.CancelledError:  # the client left while it was sent
                if response.streaming:
                    log.log(
                        settings.DJANGO_STRUCTLOG_REQUEST_CANCELLED_LOG_LEVEL, "streaming_cancelled"
                    )
            except Exception:
                if response.streaming:
                    log.exception("streaming_failed")
                raise
            return response

        leaving = asyncio.create_task(self.listen_for_disconnect(receive))
        responding = asyncio.create_task(respond())
        await asyncio.wait((leaving, responding), return_when=asyncio.FIRST_COMPLETED)
        for task in (leaving, responding):
            if task.done():
                with contextlib.suppress(RequestAborted):
                    task.result()
            else:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if responding.cancelled():
            await signals.request_finished.asend(sender=self.__class__)
        else:
            await _close(responding.result())

    async def send_response(self, response: Any, send: Any) -> None:
        """As Django's, but each piece of a stream goes out as it is, the last one with the stream's end."""
        if not isinstance(response, EventStream):
            await super().send_response(response, send)
            return
        headers = [
            (name.encode("ascii"), value.encode("latin1")) for name, value in response.items()
        ]
        cookies = [(b"Set-Cookie", c.OutputString().encode()) for c in response.cookies.values()]
        start = {"status": response.status_code, "headers": headers + cookies}
        await send({"type": "http.response.start", **start})
        loop, sending = asyncio.get_running_loop(), None

        def write(body: bytes) -> None:
            nonlocal sending
            message = {"type": "http.response.body", "body": body, "more_body": True}
            sending = asyncio.Task(send(message), loop=loop, eager_start=True)

        response.write_with(write, lambda: sending is None or sending.done())
        async with aclosing(response.pieces) as pieces:
            async for body, more in pieces:
                if sending is not None:
                    await sending
                await send({"type": "http.response.body", "body": body, "more_body": more})


async def _close(response: HttpResponseBase) -> None:
    """In the request's thread if it has one, where its database connection is."""
    context: ThreadSensitiveContext | None = SyncToAsync.thread_sensitive_context.get(None)
    if context in SyncToAsync.context_to_thread_executor:
        await sync_to_async(response.close)()
    else:
        response.close()


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
    """An answer to htmx carries its messages in a header, since it seldom has the place for them. One that
    leads to another page keeps them for it. The APIs have none."""

    def process_request(self, request: HttpRequest) -> None:
        if not is_api(request):
            super().process_request(request)

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        leads_on = response.has_header("HX-Redirect") or 300 <= response.status_code < 400
        if "HX-Request" in request.headers and not leads_on and hasattr(request, "_messages"):
            said = [{"text": str(m), "level": m.level_tag} for m in get_messages(request)]
            if said:
                # A whole page takes the place for them with it.
                boosted = "HX-Boosted" in request.headers
                after: Literal["swap", "receive"] = "swap" if boosted else "receive"
                trigger_client_event(response, "hub:messages", {"messages": said}, after=after)
        return super().process_response(request, response)


class XFrameOptionsMiddleware(InLoop, clickjacking.XFrameOptionsMiddleware):
    pass


class PrometheusBeforeMiddleware(InLoop, prometheus.PrometheusBeforeMiddleware):  # type: ignore[misc]
    pass


class PrometheusAfterMiddleware(InLoop, prometheus.PrometheusAfterMiddleware):  # type: ignore[misc]
    """With the series of each metric and its labels at hand: to find one takes longer than to count."""

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        self._series: dict[tuple[Any, ...], Any] = {}

    def label_metric(self, metric: Any, request: Any, response: Any = None, **labels: str) -> Any:
        found = self._series.get(key := (metric, *labels.items()))
        if found is None:
            found = super().label_metric(metric, request, response, **labels)
            if len(self._series) < _MOST_SERIES:
                self._series[key] = found
        return found


class RequestMiddleware(StructlogMiddleware):
    """Binds the correlation ID and logs, neither of which blocks. The user is not looked up
    (DJANGO_STRUCTLOG_USER_ID_FIELD). What is bound holds for a stream, too, which ends with its task: it
    needs no generator around it that binds it again. `Handler` logs how the stream ended."""

    async def __acall__(self, request: HttpRequest) -> HttpResponse:
        self.prepare(request)
        try:
            response = cast("HttpResponse", await cast("Any", self.get_response(request)))
        except asyncio.CancelledError:
            log.log(settings.DJANGO_STRUCTLOG_REQUEST_CANCELLED_LOG_LEVEL, "request_cancelled")
            raise
        self.handle_response(request, response)
        return response

    def prepare(self, request: HttpRequest) -> None:
        """Without an ID of the library's beside ours."""
        correlation.bind(request)
        if _plain.isEnabledFor(settings.DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL):
            log.log(
                settings.DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL,
                "request_started",
                request=self.format_request(request),
                user_agent=request.META.get("HTTP_USER_AGENT"),
            )

    def handle_response(self, request: HttpRequest, response: HttpResponse) -> None:
        if not response.streaming or hasattr(request, "_raised_exception"):
            super().handle_response(request, response)
            return
        correlation.answer(request, response)
        level = self._log_level_for_status_code(response.status_code)
        if _plain.isEnabledFor(level):
            said = {"code": response.status_code, "request": self.format_request(request)}
            log.log(level, "streaming_started", **said)


class SessionMiddleware(InLoop, sessions.SessionMiddleware):
    """A changed session is saved in a thread, because that writes to the database."""

    async def aprocess_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        if request.session.modified:
            save: Any = self.process_response
            return cast("HttpResponseBase", await sync_to_async(save)(request, response))
        return await super().aprocess_response(request, response)
