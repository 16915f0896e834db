"""How fast a download's bytes arrive, and how far it is, for a person."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from registry.models import BaseImport
from registry.storage.sizes import about, human

OVER_S = 10.0
"""Seconds that a speed is the mean of: enough that it doesn't jump from one look to the next."""
KNOWN_S = 2.0
"""Seconds before which there is none to name, also after a pause of STOPPED_S."""
STOPPED_S = 5.0
_EVERY_S = 0.25


class Speed:
    """Counts bytes as they arrive; what lay here before is not counted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._total = clock, 0
        self._marks = deque([(clock(), 0)])

    def add(self, nbytes: int) -> None:
        """So many bytes have come just now."""
        now, marks = self._clock(), self._marks
        if now - marks[-1][0] > STOPPED_S:
            marks.clear()
            marks.append((now, self._total))
        self._total += nbytes
        if now - marks[-1][0] >= _EVERY_S:
            marks.append((now, self._total))
        while len(marks) > 1 and now - marks[1][0] >= OVER_S:
            marks.popleft()

    @property
    def now(self) -> int | None:
        """Bytes a second; None before there is one to name."""
        (start, before), (end, total) = self._marks[0], self._marks[-1]
        return round((total - before) / (end - start)) if end - start >= KNOWN_S else None


def per_second(nbytes: int) -> str:
    """`38 MB/s`: two digits, the rest of them changes all the time."""
    return f"{human(float(f'{nbytes:.2g}'))}/s"


def received(row: BaseImport) -> str:
    """`1.2 of 4.4 GB, 38 MB/s, about 1 min left`; empty while it is not known how much comes."""
    if not row.total_bytes:
        return ""
    done, total = human(row.done_bytes), human(row.total_bytes)
    amount, unit = done.split()
    said = [f"{amount} of {total}" if total.endswith(f" {unit}") else f"{done} of {total}"]
    if row.is_stalled:
        said.append("waiting for the hub")
    if row.speed:
        said.append(per_second(row.speed))
    if row.seconds_left is not None:
        said.append(f"{about(row.seconds_left)} left")
    return ", ".join(said)
