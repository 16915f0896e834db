"""Generation over a WebSocket: several at once, each stopped by its id or by disconnecting.

The client sends `{"type": "generate", "id": "a", "model": …, "messages": …}`,
`{"type": "stop", "id": "a"}` and `{"type": "regenerate", "id": "a", "seed": 2}`, which asks the
last question under that id again with what it changes; every event that comes back carries the
`id`.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing
from typing import Any, cast

import structlog
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from pydantic import ValidationError

from inference.gateway.generation import aresolve, generate
from inference.gateway.schemas import InferenceIn, error_out, event_out
from inference.models import ApiToken, InferenceRequest
from registry.errors import Conflict, HubError, Invalid

log = structlog.get_logger(__name__)
MAX_AT_ONCE = 8  # generations on one socket
REMEMBERED = 32  # questions that can be asked again


class InferenceConsumer(AsyncJsonWebsocketConsumer):
    """Tokens go straight to the socket: a channel layer between would drop them when full."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._asked: dict[str, dict[str, Any]] = {}

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        request_id = str(content.get("id", "")) if isinstance(content, dict) else ""
        try:
            self._obey(request_id, content)
        except HubError as error:
            await self._tell(request_id, error_out(error))

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

    def _obey(self, request_id: str, content: Any) -> None:
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
            if request_id not in self._asked:
                raise Invalid(f"Nothing was asked under the id {request_id}; generate it first.")
            fields = self._asked[request_id] | fields
            before = self._running.pop(request_id, None)
        if request_id in self._running:
            raise Conflict(f"{request_id} is being answered already; use another id.")
        if len(self._running) >= MAX_AT_ONCE:
            raise Conflict(f"This socket answers {MAX_AT_ONCE} requests already; stop one first.")
        payload = _payload(fields)
        self._remember(request_id, fields)
        self._begin(request_id, payload, before)

    def _begin(
        self, request_id: str, payload: InferenceIn, before: asyncio.Task[None] | None
    ) -> None:
        task = asyncio.create_task(self._generate(request_id, payload, before))
        self._running[request_id] = task

        def forget(ended: asyncio.Task[None]) -> None:
            if self._running.get(request_id) is ended:
                del self._running[request_id]

        task.add_done_callback(forget)

    def _remember(self, request_id: str, fields: dict[str, Any]) -> None:
        self._asked.pop(request_id, None)
        self._asked[request_id] = fields
        while len(self._asked) > REMEMBERED:
            del self._asked[next(iter(self._asked))]

    async def _generate(
        self, request_id: str, payload: InferenceIn, before: asyncio.Task[None] | None
    ) -> None:
        # No middleware gave this message an id; the task's context is its own.
        structlog.contextvars.bind_contextvars(correlation_id=str(uuid.uuid4()))
        try:
            if before is not None:  # its last event comes before the first of the new answer
                before.cancel()
                await asyncio.wait((before,))
            await self._stream(request_id, payload)
        except HubError as error:
            await self._tell(request_id, error_out(error))
        except asyncio.CancelledError:
            await self._tell(request_id, {"event": "stopped"})
            raise
        except Exception:
            log.exception("generation failed")
            failed = HubError("The hub failed at this; its log says why.")
            await self._tell(request_id, error_out(failed))

    async def _stream(self, request_id: str, payload: InferenceIn) -> None:
        served = await aresolve(payload.model)
        events = generate(
            served,
            payload.chat(),
            payload.sampling(),
            api=InferenceRequest.Api.WEBSOCKET,
            requested_model=payload.model,
            streamed=True,
            token=cast(ApiToken | None, self.scope.get("token")),
            tools=payload.tools,
            deadline_s=payload.deadline_s,
        )
        async with aclosing(events):
            async for event in events:
                await self._tell(request_id, event_out(served, event))

    async def _tell(self, request_id: str, fields: dict[str, Any]) -> None:
        await self.send_json({**fields, "id": request_id})


def _payload(fields: dict[str, Any]) -> InferenceIn:
    try:
        return InferenceIn.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = str(first["msg"]).removeprefix("Value error, ")
        raise Invalid(f"{where}: {message}." if where else f"{message}.") from error
