"""A port of its own for programs that speak Ollama and know only a host and a port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Asgi = Callable[[Any, Any, Any], Awaitable[None]]
_AS_IT_IS = ("/v1/", "/ollama/", "/health")  # Ollama has OpenAI's API at /v1, too


def own_port(application: Asgi, port: int | None) -> Asgi:
    """`application`, which on that port has `/ollama` at its root, and the APIs alone: no WebSocket."""
    if port is None:
        return application

    async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if (scope.get("server") or ("", None))[1] == port:
            if scope["type"] == "websocket":
                await receive()  # the handshake; closing before it is accepted answers 403
                await send({"type": "websocket.close"})
                return
            path = "/" + scope["path"].lstrip("/")
            if not path.startswith(_AS_IT_IS):
                scope = {**scope, "path": f"/ollama{path}"}
        await application(scope, receive, send)

    return answer
