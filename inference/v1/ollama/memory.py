"""What `keep_alive` asks for: a model loaded, pinned or unloaded."""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import replace

import structlog
from django.conf import settings
from django.http import HttpRequest

from inference.gateway.answer import Events, Stream
from inference.gateway.generation import aresolve
from inference.loaded import load, unload
from inference.models import ApiToken
from inference.v1.ollama.schemas import OllamaRequest
from registry.errors import Conflict, Forbidden, HubError
from registry.promotion.resolve import Served

log = structlog.get_logger(__name__)


async def may_decide(request: HttpRequest, payload: OllamaRequest) -> bool:
    """Whether who asks may say what stays in memory, as over `/api/inference/models`."""
    token: ApiToken | None = getattr(request, "token", None)
    if token is not None:
        return token.scope != ApiToken.Scope.INFERENCE
    if settings.IS_LOOPBACK:
        return True
    action = "delete" if payload.keep_alive == 0 else "change"
    return await (await request.auser()).ahas_perm(f"registry.{action}_basemodel")


def _decides(payload: OllamaRequest) -> bool:
    return payload.keep_alive is not None and payload.keep_alive <= 0


async def load_or_unload(request: HttpRequest, payload: OllamaRequest) -> tuple[str, float]:
    """Do what a request without words asks for: "load" or "unload", and the seconds it took.

    Raises HubError: Forbidden, Conflict while the model answers others, what `load` raises.
    """
    began = time.perf_counter()
    served = await aresolve(payload.named)
    if _decides(payload) and not await may_decide(request, payload):
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
        sent = payload.keep_alive is not None
        self.ignored = ("keep_alive",) if sent and not allowed else ()

    @classmethod
    async def of(cls, request: HttpRequest, payload: OllamaRequest) -> Keeping:
        return cls(payload, allowed=_decides(payload) and await may_decide(request, payload))

    async def before(self) -> None:
        """Raises HubError."""
        if self._pins:
            await load(await aresolve(self._name), pin=True)

    async def after(self, served: Served) -> None:
        """Of the model that answered, whatever its name means by now. The answer is complete: what
        fails here costs nobody their answer."""
        if not self._unloads:
            return
        try:
            await unload(served)
        except Conflict:
            pass  # others still use it
        except HubError as error:
            log.warning("model not unloaded", model=served.label, error=str(error))

    def following(self, stream: Stream) -> Stream:
        """The stream, with `after` at its end."""
        return replace(stream, events=self._followed(stream)) if self._unloads else stream

    async def _followed(self, stream: Stream) -> Events:
        events, served = stream.events, stream.served
        async with aclosing(events):
            async for event in events:
                yield event
        await self.after(served)
