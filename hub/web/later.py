"""What the web process imports once it listens: all that the compatible APIs do not need. Whoever asks
for more waits for it."""

from __future__ import annotations

import asyncio
import gc
import importlib
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from threading import Thread
from typing import Any

type Asgi = Callable[[Any, Any, Any], Awaitable[None]]

ROUTES = "hub.urls.pages"
AT_ONCE = ("/v1/", "/ollama/")

_coming: Future[None] | None = None


def begin() -> Future[None]:
    """Import it in a thread, and exclude all that is imported from garbage collection: a full collection
    of some 140,000 permanent objects delayed a request by 54 ms (two cores, 2026-11-24)."""
    global _coming
    _coming = Future()
    Thread(target=_import, args=(_coming,), name="imports", daemon=True).start()
    return _coming


def _import(coming: Future[None]) -> None:
    try:
        importlib.import_module(ROUTES)
        gc.collect()
        gc.freeze()
        gc.enable()
    except Exception as error:
        coming.set_exception(error)
    else:
        coming.set_result(None)


def waiting(application: Asgi) -> Callable[[Any, Any, Any], Coroutine[Any, Any, None]]:
    """`application`, to which requests for the rest come once it is there. Where nothing was started, they
    import it themselves."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if _coming is not None and not _coming.done() and not scope["path"].startswith(AT_ONCE):
            await asyncio.shield(asyncio.wrap_future(_coming))
        await application(scope, receive, send)

    return answer
