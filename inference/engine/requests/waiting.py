"""Requests that wait: bounded in all and for each key, and taken from each key in turn."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator

from inference.engine.requests.row import Row
from registry.errors import TooManyRequests


class Waiting:
    """A queue for each key: a client that sends a hundred requests delays only its own. The caller
    holds a lock."""

    def __init__(self) -> None:
        self._rows: OrderedDict[str, deque[Row]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        return iter([row for rows in self._rows.values() for row in rows])

    def add(self, row: Row, retry_after: int) -> None:
        """Raises TooManyRequests when as many of its key wait as may."""
        mine = self._rows.get(row.key, ())
        most = row.request.key_waiting
        # One that may run at once has to pass through here.
        if most is not None and len(mine) >= max(1, most):
            raise TooManyRequests(
                f"{len(mine)} requests of this key are already waiting; try again when some "
                "are answered.",
                retry_after,
            )
        self._rows.setdefault(row.key, deque()).append(row)
        self._count += 1

    def first(self, running: Counter[str]) -> Row | None:
        """The next row to run: the oldest one of the key whose turn it is, below its limit."""
        for key, rows in self._rows.items():
            most = rows[0].request.key_running
            if most is None or running[key] < most:
                return rows[0]
        return None

    def remove(self, row: Row) -> bool:
        """Take a row out; whether it was there."""
        rows = self._rows.get(row.key)
        if rows is None or row not in rows:
            return False
        rows.remove(row)
        self._count -= 1
        if not rows:
            del self._rows[row.key]
        return True

    def turn_over(self, row: Row) -> None:
        """Put the row's key behind the other keys."""
        if row.key in self._rows:
            self._rows.move_to_end(row.key)
