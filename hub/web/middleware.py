"""Access rules: known hosts, same origin for unsafe requests, tokens beyond loopback.

All of it is async-capable: one purely synchronous middleware in the chain would occupy a thread for
as long as a view runs.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from ninja.utils import check_csrf
from whitenoise.middleware import WhiteNoiseMiddleware  # type: ignore[import-untyped]

from hub.preferences import changing
from hub.web import access, cors
from hub.web.gate import Gate, GetResponse
from hub.web.refusal import refusal, refused
from registry import audit
from registry.errors import HubError
from registry.web.actor import actor
from registry.web.failures import note, too_large, understood

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# Not /ollama/: its programs send JSON as any type, as curl does. Origin and Sec-Fetch-Site are what
# keeps other pages from it.
_API = ("/api/", "/v1/")
# Prometheus in a container reaches the host by this name and cannot send a different Host header.
_SCRAPER = "host.docker.internal"


class HostMiddleware(Gate):
    """Checks the Host header on every route, static files included, as protection against DNS
    rebinding: a foreign name that a browser resolves to this machine is refused."""

    def answer(self, request: HttpRequest) -> HttpResponseBase | None:
        try:
            request.get_host()
        except DisallowedHost:
            if not _is_scrape(request):
                return refusal(
                    request,
                    400,
                    "unknown_host",
                    f"Unknown host name {request.META.get('HTTP_HOST', '')[:100]!r}; add it to "
                    "HUB_ALLOWED_HOSTS.",
                )
            request.META["HTTP_HOST"] = settings.ALLOWED_HOSTS[0]
        return None


def _is_scrape(request: HttpRequest) -> bool:
    host = urlsplit(f"//{request.META.get('HTTP_HOST', '')}").hostname
    return request.path == "/metrics" and host == _SCRAPER


class ShapeMiddleware(Gate):
    """Requests that no view could answer: text that no database keeps, numbers that none counts
    to, bodies that are packed or larger than the hub reads at once."""

    def answer(self, request: HttpRequest) -> HttpResponseBase | None:
        if request.path_info.startswith("/v1/") and request.path_info != "/v1/":
            # Some clients end every address with a slash; the API means the same by both.
            request.path_info = request.path_info.rstrip("/")
        if "\0" in request.path or _NUL_SENT.search(request.META.get("QUERY_STRING", "")):
            return refusal(
                request, 400, "nul", "The address contains a NUL character; leave it out."
            )
        if _BEYOND_COUNTING.search(request.path) and not request.path.startswith("/v1/"):
            return refusal(request, 404, "not_found", f"There is nothing at {request.path}.")
        if request.headers.get("Content-Encoding", "identity") != "identity":
            return refusal(
                request,
                415,
                "unsupported_encoding",
                "Send the body as it is, without Content-Encoding: the hub does not unpack it.",
            )
        if request.content_type != "multipart/form-data" and _body_bytes(request) > _most_bytes():
            error = too_large(request)
            return refusal(request, error.status, error.code, str(error))
        return None

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        """A page's failure that the person can do something about."""
        if isinstance(error, HubError) or not (known := understood(request, error)):
            return None
        note(request, error, known)
        return refused(request, known)


_NUL_SENT = re.compile("%00", re.ASCII)
_BEYOND_COUNTING = re.compile(r"(?:^|[/.])\d{19,}(?:[/.]|$)")  # 2**63 has 19 digits


def _most_bytes() -> int:
    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def _body_bytes(request: HttpRequest) -> int:
    """What was announced, or for a body sent in chunks what has arrived: ASGI has all of it."""
    if announced := request.META.get("CONTENT_LENGTH"):
        return int(announced) if announced.isdecimal() else 0
    body = getattr(request, "_stream", None)
    if body is None or not body.seekable():
        return 0
    size: int = body.seek(0, os.SEEK_END)
    body.seek(0)
    return size


class StaticFilesMiddleware(WhiteNoiseMiddleware, Gate):  # type: ignore[misc]
    """WhiteNoise, made async-capable: its own middleware is synchronous, and ASGI would read its
    file responses, which are iterators, in a thread."""

    def __init__(self, get_response: GetResponse) -> None:
        WhiteNoiseMiddleware.__init__(self, get_response)
        Gate.__init__(self, get_response)

    __call__ = Gate.__call__

    def answer(self, request: HttpRequest) -> HttpResponseBase | None:
        file = (
            self.find_file(request.path_info)
            if self.autorefresh
            else self.files.get(request.path_info)
        )
        if file is None:
            return None
        found = file.get_response(request.method, request.META)
        body = b""
        if found.file is not None:
            with found.file:
                body = found.file.read()
        response = HttpResponse(body, status=int(found.status))
        del response["Content-Type"]
        for name, value in found.headers:
            response[name] = value
        return response


class SettingsMiddleware(Gate):
    """Takes over settings that another process saved, such as `manage.py settings`."""

    def answer(self, request: HttpRequest) -> None:
        changing.refresh()


class TokenMiddleware(Gate):
    """Requires a valid API token or an administrator's session beyond loopback. On loopback nothing
    is required, but a token that was sent is still attached as `request.token`."""

    def answer(self, request: HttpRequest) -> HttpResponseBase | None:
        audit.act(lambda: actor(request))
        return access.check(request)

    async def aanswer(self, request: HttpRequest) -> HttpResponseBase | None:
        audit.act(lambda: actor(request))
        if access.needs_no_check(request):
            request.token = None  # type: ignore[attr-defined]
            return None
        return await sync_to_async(access.check)(request)  # reads the database


class SameOriginMiddleware(Gate):
    """Prevents pages of other origins from changing anything.

    ninja exempts its operations from Django's CSRF check, and a browser sends a cross-origin
    `text/plain` or form body without a preflight. So an unsafe request needs our own Origin or none,
    and a body for `/api/` or `/v1/` must be JSON, or multipart with a CSRF or API token.
    """

    def answer(self, request: HttpRequest) -> HttpResponseBase | None:
        if refused := cors.lacks_key(request):
            return refused
        if request.method in _SAFE:
            return None
        if not (cors.origin_of(request) or _is_same_origin(request)):
            return refusal(
                request,
                403,
                "cross_origin",
                "Cross-origin requests are not allowed; send the request from the hub's own pages "
                "or without an Origin header, or name the page's origin in HUB_CORS_ORIGINS.",
            )
        if request.path.startswith(_API) and _has_body(request):
            return _refuse_body(request)
        return None


def _is_same_origin(request: HttpRequest) -> bool:
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    return origin is None or cors.is_own(request, origin)


def _has_body(request: HttpRequest) -> bool:
    return (
        request.headers.get("Content-Length", "0") not in ("", "0")
        or "Transfer-Encoding" in request.headers
    )


def _refuse_body(request: HttpRequest) -> HttpResponseBase | None:
    if request.content_type == "application/json":
        return None
    if request.content_type != "multipart/form-data":
        return refusal(
            request,
            415,
            "unsupported_media_type",
            "Send the body as JSON, with the header Content-Type: application/json.",
        )
    if getattr(request, "token", None) is None and check_csrf(request) is not None:
        return refusal(
            request,
            403,
            "csrf",
            "A form upload needs an API token (Authorization: Bearer …) or the page's CSRF token.",
        )
    return None
