"""Pages of other origins that may use the APIs: HUB_CORS_ORIGINS, none by default.

An origin that is named is trusted like the hub's own pages. With `*` any page may ask, but only with
an API key, on this machine too: else every page that a browser here opens could use the hub.
Cookies never count across origins.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import cast

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from hub.monitoring.correlation import EXPOSED
from hub.web.gate import Gate
from hub.web.refusal import is_api, refusal

ANY = "*"
_EXPOSED = ", ".join((*EXPOSED, "x-hub-ignored", "Retry-After"))
_PREFLIGHT_S = 600


def origin_of(request: HttpRequest) -> str:
    """The origin of another's page that may use this API address, else an empty text."""
    origin = request.headers.get("Origin", "")
    known = settings.CORS_ORIGINS
    if not origin or not is_api(request) or is_own(request, origin):
        return ""
    return origin if origin in known or ANY in known else ""


def is_own(request: HttpRequest, origin: str) -> bool:
    return origin in (f"{request.scheme}://{request.get_host()}", *settings.CSRF_TRUSTED_ORIGINS)


def lacks_key(request: HttpRequest) -> HttpResponseBase | None:
    """A refusal for a page that is allowed as one of any, and sent no valid key."""
    origin = origin_of(request)
    if not origin or origin in settings.CORS_ORIGINS or getattr(request, "token", None):
        return None
    return refusal(
        request,
        401,
        "token_required",
        f"HUB_CORS_ORIGINS is *, so a page of {origin} needs an API key (Authorization: Bearer …); "
        "name the origin there to let it in without.",
    )


class CorsMiddleware(Gate):
    """Answers preflights, and lets the pages of allowed origins read what they asked for."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        answered = super().__call__(request)
        if self.is_async:
            return self._shown(request, cast("Awaitable[HttpResponseBase]", answered))
        return _show(request, cast("HttpResponseBase", answered))

    async def _shown(
        self, request: HttpRequest, answered: Awaitable[HttpResponseBase]
    ) -> HttpResponseBase:
        return _show(request, await answered)

    def answer(self, request: HttpRequest) -> HttpResponseBase | None:
        asked = request.headers.get("Access-Control-Request-Method")
        if request.method != "OPTIONS" or not asked or not origin_of(request):
            return None
        response = HttpResponse(status=204)
        response["Access-Control-Allow-Methods"] = "GET, HEAD, POST, PUT, PATCH, DELETE"
        # Named one by one: a wildcard does not cover Authorization, and clients send many of their own.
        response["Access-Control-Allow-Headers"] = request.headers.get(
            "Access-Control-Request-Headers", ""
        )
        response["Access-Control-Max-Age"] = str(_PREFLIGHT_S)
        if request.headers.get("Access-Control-Request-Private-Network") == "true":
            response["Access-Control-Allow-Private-Network"] = "true"
        return response


def _show(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if origin := origin_of(request):
        response["Access-Control-Allow-Origin"] = origin
        response["Access-Control-Expose-Headers"] = _EXPOSED
    if settings.CORS_ORIGINS and is_api(request):
        response["Vary"] = ", ".join(filter(None, (response.get("Vary"), "Origin")))
    return response
