"""What `keep_alive` asks for: a model loaded, pinned or unloaded."""

from __future__ import annotations

import time
from contextlib import aclosing, suppress
from dataclasses import replace

from django.conf import settings
from django.http import HttpRequest

from inference.gateway.answer import Events, Stream
from inference.gateway.generation import aresolve
from inference.loaded import load, unload
from inference.models import ApiToken
from inference.v1.ollama.schemas import OllamaRequest
from registry.errors import Conflict, Forbidden


async def may_decide(request: HttpRequest) -> bool:
    """Whether who asks may say what stays in memory, as over `/api/inference/models`."""
    token: ApiToken | None = getattr(request, "token", None)
    if token is not None:
        return token.scope != ApiToken.Scope.INFERENCE
    if settings.IS_LOOPBACK:
        return True
    return await (await request.auser()).ahas_perm("registry.change_basemodel")


def _decides(payload: OllamaRequest) -> bool:
    return payload.keep_alive is not None and payload.keep_alive <= 0


async def load_or_unload(request: HttpRequest, payload: OllamaRequest) -> tuple[str, float]:
    """Do what a request without words asks for: "load" or "unload", and the seconds it took.

    Raises HubError: Forbidden, Conflict while the model answers others, what `load` raises.
    """
    began = time.perf_counter()
    served = await aresolve(payload.named)
    if _decides(payload) and not await may_decide(request):
        raise Forbidden(
            "A key of the scope inference may not decide what stays in memory: leave keep_alive out, "
            "or use a key of the scope manage."
        )
    if payload.keep_alive == 0:
        await unload(served)
        return "unload", time.perf_counter() - began
    await load(served, pin=True if _decides(payload) else None)
    return "load", time.perf_counter() - began


class Keeping:
    """What becomes of the model of one answer. `ignored` names keep_alive where it is not heeded."""

    def __init__(self, payload: OllamaRequest, *, allowed: bool) -> None:
        self._name = payload.named
        self._unloads = allowed and payload.keep_alive == 0
        self._pins = allowed and not self._unloads
        told = payload.keep_alive is not None
        self.ignored = ("keep_alive",) if told and not allowed else ()

    @classmethod
    async def of(cls, request: HttpRequest, payload: OllamaRequest) -> Keeping:
        return cls(payload, allowed=_decides(payload) and await may_decide(request))

    async def before(self) -> None:
        """Raises HubError."""
        if self._pins:
            await load(await aresolve(self._name), pin=True)

    async def after(self) -> None:
        if self._unloads:
            with suppress(Conflict):  # others still use it
                await unload(await aresolve(self._name))

    def following(self, stream: Stream) -> Stream:
        """The stream, with `after` at its end."""
        return replace(stream, events=self._followed(stream.events)) if self._unloads else stream

    async def _followed(self, events: Events) -> Events:
        async with aclosing(events):
            async for event in events:
                yield event
        await self.after()
