"""Other processes that take from the memory budget, as the engine sees them: a training job.

Jobs belong to training, which inference does not know; the hub registers what looks at them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Taken:
    """Bytes of the budget that another process has, or will have soon; `by` names it for people."""

    nbytes: int = 0
    by: str = ""


class Neighbours(Protocol):
    def taken(self) -> Taken:
        """Called on any thread; answers within seconds, with the last known figure where it cannot
        find out."""
        ...


class Nobody:
    """No neighbours: the default until others are registered."""

    def taken(self) -> Taken:
        return Taken()


_present: Neighbours = Nobody()


def register(neighbours: Neighbours) -> None:
    """Set the neighbours of this process's engine."""
    global _present
    _present = neighbours


def present() -> Neighbours:
    return _present
