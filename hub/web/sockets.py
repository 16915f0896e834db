"""The WebSocket route, with the same rules as the HTTP routes: host, origin, token.

Channels' AllowedHostsOriginValidator accepts any port of an allowed host, so a page of another
program on this machine would pass. Here the Origin must equal the requested host.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http.cookies import SimpleCookie
from typing import Any, cast
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from channels.routing import URLRouter
from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host
from django.urls import path, re_path
from django.utils.module_loading import import_string

from hub.web import access, permissions
from inference.models import ApiToken
from inference.web.consumers import InferenceConsumer

Scope = dict[str, Any]
Asgi = Callable[[Scope, Any, Any], Awaitable[None]]


class SocketGate:
    """Passes a handshake to `application`, or denies it."""

    def __init__(self, application: Asgi) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        headers = {
            name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]
        }
        if _is_ours(headers) and await _may_enter(scope, headers):
            await self.application(scope, receive, send)
        else:
            await receive()  # the handshake; closing before accepting it sends 403
            await send({"type": "websocket.close"})


def websockets() -> Asgi:
    """The application of every WebSocket of the hub."""
    # Channels routes ASGI applications with Django's `path`, whose type knows views only.
    routes: Any = [
        path("ws/inference", cast("Any", InferenceConsumer.as_asgi())),
        re_path("", cast("Any", _nothing_here)),
    ]
    return SocketGate(cast("Asgi", URLRouter(routes)))


async def _nothing_here(scope: Scope, receive: Any, send: Any) -> None:
    await receive()  # the handshake; closing before it is accepted answers 403
    await send({"type": "websocket.close"})


def _is_ours(headers: dict[str, str]) -> bool:
    """Whether the host is known, and the Origin is that host or absent (a program's request)."""
    host = headers.get("host", "")
    domain, _ = split_domain_port(host)
    if not domain or not validate_host(domain, settings.ALLOWED_HOSTS):
        return False
    return "origin" not in headers or urlsplit(headers["origin"]).netloc == host


async def _may_enter(scope: Scope, headers: dict[str, str]) -> bool:
    text = access.bearer(headers.get("authorization", ""))
    token = await sync_to_async(ApiToken.authenticate)(text) if text else None
    scope["token"] = token
    if token is not None:
        return access.allows(token, scope["path"])
    if settings.IS_LOOPBACK:
        return True
    return not text and await sync_to_async(_may_generate)(headers.get("cookie", ""), scope["path"])


def _may_generate(cookies: str, path: str) -> bool:
    """Whether the session cookie belongs to a user who may ask for answers."""
    engine = import_string(f"{settings.SESSION_ENGINE}.SessionStore")
    cookie = SimpleCookie(cookies).get(settings.SESSION_COOKIE_NAME)
    request = HttpRequest()
    request.session = engine(cookie.value if cookie else None)
    return permissions.allows(get_user(request), "GET", path)
