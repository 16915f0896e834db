"""Questions to a part that may not answer, for probes that must."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from django.db import connection


class Question[T]:
    """`ask`, put in a thread of its own, so that whoever wants the answer waits no longer than
    `limit_s`. All who want it while one is asked wait for the same answer; a next thread starts only
    when that has come, which is kept for `keep_s`."""

    def __init__(self, ask: Callable[[], T], limit_s: float, keep_s: float = 0.0) -> None:
        self._ask = ask
        self.limit_s = limit_s
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._newest: Answer[T] | None = None

    def put(self) -> Answer[T]:
        """Ask, or join those who do; see `Answer.get`."""
        if connection.in_atomic_block:  # another thread would not see what was written here
            answer = Answer[T](self.limit_s)
            answer.find(self._ask)
            return answer
        with self._lock:
            newest = self._newest
            if newest is None or newest.is_older_than(self._keep_s):
                self._newest = newest = Answer(self.limit_s)
                threading.Thread(target=newest.find, args=(self._asked,), daemon=True).start()
            return newest

    def _asked(self) -> T:
        try:
            return self._ask()
        finally:
            connection.close()


class Answer[T]:
    """What a question gets, once it has come."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._put_at = monotonic()
        self._come = threading.Event()
        self._come_at = 0.0
        self._found: T | None = None
        self._error: Exception | None = None

    def find(self, ask: Callable[[], T]) -> None:
        try:
            self._found = ask()
        except Exception as error:
            self._error = error
        finally:
            self._come_at = monotonic()
            self._come.set()

    def is_older_than(self, seconds: float) -> bool:
        return self._come.is_set() and monotonic() - self._come_at >= seconds

    def get(self) -> T:
        """Raises what the asking raised, and TimeoutError when nothing came in the question's time.
        Whoever joins one that is overdue does not wait at all."""
        left = self._limit_s - (monotonic() - self._put_at)
        if not self._come.wait(max(0.0, left)):
            raise TimeoutError(f"No answer within {self._limit_s:g} s.")
        if self._error is not None:
            raise self._error
        return self._found  # type: ignore[return-value]
