"""One thread whose database connection stays open, for the few rows that every answer needs.

Django gives each request a thread, and that thread a connection, which under ASGI lives as long
as the request: opening and closing one took longer than all of its queries.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import wraps
from typing import Any, cast

from django.db import InterfaceError, OperationalError, connection

_MOST_NAMES = 500
_MOST_TURNS = 4
# One is enough: what runs here takes less than a millisecond, and SQLite has one writer anyway.
_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference-database")


def in_thread[T, R](
    work: Callable[[Sequence[T]], Sequence[R | Exception]],
) -> Callable[[T], Coroutine[Any, Any, R]]:
    """`work` for asynchronous callers, who have one thing each: what has come when the thread is free
    goes into one call, since to change threads takes longer than to do it. Raises what `work` has in
    a thing's place."""
    waiting = deque[tuple[T, asyncio.Future[R]]]()
    asked = False  # whether a call will come that takes what waits

    def run() -> None:
        nonlocal asked
        asked = False  # before the look: whoever comes later asks again
        taken = list[tuple[T, asyncio.Future[R]]]()
        while waiting:
            taken.append(waiting.popleft())
        try:
            made = work([thing for thing, _ in taken]) if taken else []
        except Exception as error:
            made = [error] * len(taken)
        answers = [(answer, result) for (_, answer), result in zip(taken, made, strict=True)]
        for loop in {answer.get_loop() for answer, _ in answers}:
            own = [one for one in answers if one[0].get_loop() is loop]
            with suppress(RuntimeError):  # closed: nobody waits any longer
                loop.call_soon_threadsafe(_give, own)

    def submit(seen: int = 0, turns: int = _MOST_TURNS) -> None:
        """Once a turn of the event loop brings nobody more: those who ask together seldom do so in one."""
        if turns and len(waiting) > seen:
            asyncio.get_running_loop().call_soon(submit, len(waiting), turns - 1)
        else:
            _thread.submit(contextvars.copy_context().run, run)

    async def call(thing: T) -> R:
        nonlocal asked
        answer = asyncio.get_running_loop().create_future()
        waiting.append((thing, answer))
        if not asked:
            asked = True
            submit()
        return cast("R", await answer)

    return call


def _give[R](answers: Sequence[tuple[asyncio.Future[R], R | Exception]]) -> None:
    for answer, result in answers:
        if answer.done():  # whoever waited has gone
            continue
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)


def ask[T](function: Callable[[], T], limit_s: float) -> T:
    """`function` for any other thread, which waits no longer than that. Raises TimeoutError, and what it
    raised."""
    if connection.in_atomic_block:  # another thread would not see what was written here
        return function()
    return _thread.submit(reconnecting, function).result(limit_s)


def remembered[T](find: Callable[[str], T]) -> Callable[[str], T]:
    """`find`, called again only once the database has changed, which SQLite says in microseconds while
    the queries take milliseconds. For this thread alone: what its own connection changes (the request
    log) does not count. On PostgreSQL it is called each time."""
    known: dict[str, T] = {}
    seen: object = None

    @wraps(find)
    def look(name: str) -> T:
        nonlocal seen
        if (now := _change()) is None:
            return find(name)
        if now != seen or len(known) >= _MOST_NAMES:
            known.clear()
            seen = now
        if name not in known:
            known[name] = find(name)
        return known[name]

    return look


def _change() -> object:
    """Differs once another connection has changed the database; None where that is unknown."""
    if connection.vendor != "sqlite":
        return None
    with connection.cursor() as cursor:
        (version,) = cursor.execute("PRAGMA data_version").fetchone()
    return connection.connection, version


def reconnecting[**P, T](function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `function` returns; called again when the database was gone."""
    try:
        return function(*args, **kwargs)
    except (OperationalError, InterfaceError):
        if connection.connection is not None and connection.is_usable():
            raise
        connection.close()  # the database was restarted; Django opens another one
        return function(*args, **kwargs)


def close() -> None:
    """Close the thread's connection, if it has one; the next call opens another."""
    if _thread._threads:
        _thread.submit(lambda: connection.close()).result()
