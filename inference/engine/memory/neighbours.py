"""Who else takes from the memory budget, as the engine sees it: a training job, in a process of
its own.

Jobs belong to training, which inference does not know; the hub registers what looks at them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Taken:
    """Bytes of the budget that somebody else has, or will have soon; `by` names him for a person."""

    nbytes: int = 0
    by: str = ""


class Neighbours(Protocol):
    def taken(self) -> Taken:
        """Called on any thread; answers within seconds, with its last knowledge where it cannot
        find out."""
        ...


class Nobody:
    """An empty machine: what the engine sees where nothing else was registered."""

    def taken(self) -> Taken:
        return Taken()


_present: Neighbours = Nobody()


def register(neighbours: Neighbours) -> None:
    """Let the engine of this process know of `neighbours`."""
    global _present
    _present = neighbours


def present() -> Neighbours:
    return _present
