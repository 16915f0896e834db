"""`/mcp`: the streamable HTTP transport, one request at a time and without sessions.

A view like any other, so that host, origin, key and size are checked as on every path.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

_FORWARDED = ("Host", "Authorization", "X-Api-Key")
_sent: ContextVar[dict[str, str]] = ContextVar("sent")  # those of the request being answered


@csrf_exempt  # SameOriginMiddleware keeps other pages away
@require_POST
async def view(request: HttpRequest) -> HttpResponse:
    """POST alone: there are no sessions to end, and nothing that the server says by itself."""
    make_manager = await sync_to_async(_prepared, thread_sensitive=False)()
    _sent.set({name: request.headers[name] for name in _FORWARDED if name in request.headers})
    manager = make_manager()
    answer = _Answer(request.body)
    async with manager.run():
        await manager.handle_request(_scope(request), answer.receive, answer.send)
    return answer.response


@cache
def _prepared() -> Callable[[], Any]:
    """What makes a manager for one request. Importing `mcp` takes a second: call it in a thread."""
    import httpx
    from mcp.server.transport_security import TransportSecuritySettings

    from hub.mcp.server import make_server

    transport: Any = httpx.ASGITransport(ASGIHandler())  # type: ignore[arg-type]
    checked = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # by the middleware

    def reach() -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=transport, base_url="http://hub", headers=_sent.get())

    server = make_server(reach)

    def make_manager() -> Any:
        server.streamable_http_app(
            json_response=True, stateless_http=True, transport_security=checked
        )
        return server.session_manager

    return make_manager


def _scope(request: HttpRequest) -> dict[str, Any]:
    headers = [(k.lower().encode(), v.encode("latin-1")) for k, v in request.headers.items()]
    return {
        "type": "http",
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": request.path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": None,
        "server": None,
    }


class _Answer:
    """What the transport reads and sends, as a Django response."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self.response = HttpResponse()

    async def receive(self) -> dict[str, Any]:
        if self._body is None:
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.response.status_code = message["status"]
            for name, value in message["headers"]:
                if name.lower() != b"content-length":
                    self.response[name.decode()] = value.decode("latin-1")
        elif message["type"] == "http.response.body":
            self.response.write(message.get("body", b""))
