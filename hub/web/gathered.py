"""uvicorn's protocol for HTTP, which sends the head of an answer together with what follows at once: to
write to a socket costs more than to make what is written."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol

_HEAD = b"HTTP/1."


class Gathered:
    """A transport that keeps a head until the next piece of its answer, or until the event loop's turn
    ends. All else is the transport's own."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.bare = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD):
            self._head = data
            asyncio.get_running_loop().call_soon(self._flush)
            return
        self.bare.write(data)

    def close(self) -> None:
        self._flush()
        self.bare.close()

    def _flush(self) -> None:
        if self._head:
            data, self._head = self._head, b""
            self.bare.write(data)


class Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("Any", Gathered(cast("asyncio.Transport", transport))))

    def handle_websocket_upgrade(self, *arguments: Any) -> None:
        self.transport = self.transport.bare
        super().handle_websocket_upgrade(*arguments)
