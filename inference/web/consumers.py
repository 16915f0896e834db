"""Generation over a WebSocket: several at once, each stopped by its id or by disconnecting.

The client sends `{"type": "generate", "id": "a", "model": …, "messages": …}`,
`{"type": "stop", "id": "a"}` and `{"type": "regenerate", "id": "a", "seed": 2}`, which repeats the
last request with that id and what it changes; every event that comes back carries the `id`.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing
from typing import Any, cast

import structlog
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from pydantic import ValidationError

from inference.gateway import generation
from inference.gateway.request import Caller
from inference.models import ApiToken, InferenceRequest
from inference.native import bodies
from inference.native.schemas import InferenceIn
from inference.protocol import Chunk, Done
from registry.errors import Conflict, HubError, Invalid, internal_error
from registry.problems import problems
from registry.web.failures import database_away

log = structlog.get_logger(__name__)
MAX_AT_ONCE = 8  # generations on one socket
REMEMBERED = 32  # requests that can be repeated


class InferenceConsumer(AsyncJsonWebsocketConsumer):
    """Tokens go straight to the socket: a channel layer between would drop them when full."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._requests: dict[str, dict[str, Any]] = {}

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        request_id = str(content.get("id", "")) if isinstance(content, dict) else ""
        try:
            self._handle(request_id, content)
        except HubError as error:
            await self._send(request_id, bodies.failed(error))

    async def disconnect(self, code: int) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        try:
            return await super().decode_json(text_data)
        except ValueError:
            return None

    def _handle(self, request_id: str, content: Any) -> None:
        kind = content.get("type") if isinstance(content, dict) else None
        if kind == "stop":
            if task := self._running.get(request_id):
                task.cancel()
            return
        if kind not in ("generate", "regenerate") or not request_id:
            raise Invalid(
                'Send {"type": "generate", "id": …, "model": …}, {"type": "regenerate", "id": …} '
                'or {"type": "stop", …}.'
            )
        fields = {name: value for name, value in content.items() if name not in ("type", "id")}
        before = None
        if kind == "regenerate":
            if request_id not in self._requests:
                raise Invalid(f"There is no request with the id {request_id}; generate it first.")
            fields = self._requests[request_id] | fields
            before = self._running.pop(request_id, None)
        if request_id in self._running:
            raise Conflict(f"{request_id} is still being answered; use another id.")
        if len(self._running) >= MAX_AT_ONCE:
            raise Conflict(f"This socket already answers {MAX_AT_ONCE} requests; stop one first.")
        try:
            payload = InferenceIn.model_validate(fields)
        except ValidationError as error:
            raise Invalid(problems(error.errors(), fields)[0].sentence) from error

        self._requests.pop(request_id, None)
        self._requests[request_id] = fields
        while len(self._requests) > REMEMBERED:
            del self._requests[next(iter(self._requests))]

        task = asyncio.create_task(self._answer(request_id, payload, before))
        self._running[request_id] = task

        def forget(ended: asyncio.Task[None]) -> None:
            if self._running.get(request_id) is ended:
                del self._running[request_id]

        task.add_done_callback(forget)

    async def _answer(
        self, request_id: str, payload: InferenceIn, before: asyncio.Task[None] | None
    ) -> None:
        # No middleware gave this message an id; the task's context is its own.
        correlation_id = str(uuid.uuid4())
        structlog.contextvars.bind_contextvars(correlation_id=correlation_id)
        try:
            if before is not None:  # its last event comes before the first of the new answer
                before.cancel()
                await asyncio.wait((before,))
            token = cast(ApiToken | None, self.scope.get("token"))
            caller = Caller(InferenceRequest.Api.WEBSOCKET, token)
            stream = await generation.stream(payload.request(), caller)
            async with aclosing(stream.events) as events:
                await self._send(request_id, bodies.started(stream.served, stream.started))
                async for _, event in events:
                    if isinstance(event, Chunk):
                        await self._send(request_id, bodies.delta(event))
                    elif isinstance(event, Done):
                        await self._send(request_id, bodies.done(stream.served, event))
        except HubError as error:
            await self._send(request_id, bodies.failed(error))
        except asyncio.CancelledError:
            await self._send(request_id, {"event": "stopped"})
            raise
        except Exception as error:
            log.exception("generation failed")
            failed = database_away(error) or HubError(internal_error(correlation_id))
            await self._send(request_id, bodies.failed(failed))

    async def _send(self, request_id: str, fields: dict[str, Any]) -> None:
        await self.send_json({**fields, "id": request_id})
