"""A WebSocket client for an ASGI consumer. `channels.testing` has one, but importing it needs
daphne, which the hub does not use."""

import json
from typing import Any

from asgiref.testing import ApplicationCommunicator


class Socket:
    def __init__(self, application: Any, path: str) -> None:
        scope = {"type": "websocket", "path": path, "headers": [], "query_string": b""}
        self.gone = False
        self._asgi = ApplicationCommunicator(application, scope)

    async def connect(self) -> bool:
        """Whether the consumer accepted."""
        await self._asgi.send_input({"type": "websocket.connect"})
        return bool((await self._asgi.receive_output(5))["type"] == "websocket.accept")

    async def send(self, message: Any) -> None:
        """A text as it is, anything else as JSON."""
        text = message if isinstance(message, str) else json.dumps(message)
        await self._asgi.send_input({"type": "websocket.receive", "text": text})

    async def receive(self) -> dict[str, Any]:
        output = await self._asgi.receive_output(5)
        assert output["type"] == "websocket.send", output
        return dict(json.loads(output["text"]))

    async def disconnect(self) -> None:
        self.gone = True
        await self._asgi.send_input({"type": "websocket.disconnect", "code": 1000})
        await self._asgi.wait(5)
