"""How long the web process waits for PostgreSQL.

libpq waits without end for the answer of a server that is stopped, swapped out or cut off, and a pool
waits half a minute for a connection to one that is gone. People and probes get an answer within seconds
instead: a statement may still take its time, but only while the server answers somebody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any

import psycopg

ASK_AFTER_S = 1.5  # without an answer; then the server is asked whether it answers at all
GIVE_UP_AFTER_S = 3.0
CHECK_S = 1.5  # for the empty statement before a connection is used again
REST_S = 1.0  # in which nobody tries again
_RECONNECT_S = (
    5.0  # the pool pauses ever longer until then; afterwards a request makes it try at once
)

_params: Callable[[], dict[str, Any]] = dict
_lock = threading.Lock()
_heard_at = _failed_at = _drained_at = float("-inf")
_asking = False


class NoAnswer(psycopg.OperationalError):
    """The server was silent for too long."""


def pool_options(params: Callable[[], dict[str, Any]], most: int) -> dict[str, Any]:
    """For psycopg's pool of at most that many connections; `params` say how they are made."""
    global _params
    _params = params
    return {
        "min_size": 2,
        "max_size": most,
        "timeout": GIVE_UP_AFTER_S,
        "reconnect_timeout": _RECONNECT_S,
        "connection_class": PatientConnection,
    }


def refuse_while_away() -> None:
    """Raises NoAnswer when somebody has failed a moment ago: those who come meanwhile do not wait one
    after another."""
    if monotonic() - _failed_at < REST_S:
        raise NoAnswer("PostgreSQL did not answer a moment ago.")


def note_failure() -> None:
    """Nobody needs to try in the next moment."""
    global _failed_at
    _failed_at = monotonic()


class PatientConnection(psycopg.Connection[Any]):
    """Gives up on a server that answers neither this connection nor a new one, and closes itself: what
    comes late would be taken for the next statement's answer."""

    _limit_s: float | None = None

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        """The pool asks by an empty query whether a connection that it kept still works. Where one
        does not, neither do the others, and each would cost a pause of its own."""
        if query != "":
            return super().execute(query, *args, **kwargs)
        self._limit_s = CHECK_S
        try:
            return super().execute(query, *args, **kwargs)
        except psycopg.Error:
            _drain(self._pool)
            raise
        finally:
            self._limit_s = None

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().wait(_watched(gen, self._limit_s), *args, **kwargs)
        except NoAnswer:
            self.pgconn.finish()
            note_failure()
            raise


def _drain(pool: Any) -> None:
    global _drained_at
    if pool is not None and monotonic() - _drained_at > REST_S:
        _drained_at = monotonic()
        pool.drain()


def _watched(gen: Generator[Any, Any, Any], limit_s: float | None) -> Generator[Any, Any, Any]:
    """`gen`, which ends with NoAnswer once the server is taken for gone. psycopg sends it a false value
    whenever nothing has come for a tenth of a second."""
    began = monotonic()
    try:
        state = next(gen)
        while True:
            ready = yield state
            if not ready:
                _judge(began, limit_s)
            state = gen.send(ready)
    except StopIteration as end:
        return end.value


def _judge(began: float, limit_s: float | None) -> None:
    silent_s = monotonic() - (began if limit_s else max(began, _heard_at))
    if silent_s > (limit_s or GIVE_UP_AFTER_S):
        raise NoAnswer(f"PostgreSQL has not answered for {silent_s:.0f} s.")
    if silent_s > ASK_AFTER_S and not limit_s:
        _ask()


def _ask() -> None:
    """Open a connection beside the others, in a thread; `_heard_at` is when that last went well."""
    global _asking
    with _lock:
        if _asking:
            return
        _asking = True
    threading.Thread(target=_connect, name="postgresql-asked", daemon=True).start()


def _connect() -> None:
    global _asking, _heard_at
    try:
        psycopg.connect(**_params()).close()
        _heard_at = monotonic()
    except psycopg.Error:
        return
    finally:
        _asking = False
