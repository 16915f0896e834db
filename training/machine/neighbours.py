"""Who shares this machine with training: waiting chat requests and models in memory.

The engine belongs to inference, which training must not import, so the hub registers an
implementation that asks it.
"""

from __future__ import annotations

from typing import Protocol


class Neighbours(Protocol):
    """Every method returns within a second; when nothing answers, as if nobody were there."""

    def held_bytes(self) -> int:
        """Bytes that the engine's models hold now."""
        ...

    def busy_bytes(self) -> int:
        """The part of `held_bytes` that cannot be freed: models that are generating or pinned."""
        ...

    def someone_waits(self) -> bool:
        """Whether someone is waiting for tokens right now."""
        ...

    def make_room(self, nbytes: int) -> list[str]:
        """Evict idle models that are not pinned, longest idle first, until `nbytes` are free or no
        such model is left. Returns the names of the evicted models."""
        ...


class Nobody:
    """An otherwise empty machine: the default when nothing was registered."""

    def held_bytes(self) -> int:
        return 0

    def busy_bytes(self) -> int:
        return 0

    def someone_waits(self) -> bool:
        return False

    def make_room(self, nbytes: int) -> list[str]:
        return []


_present: Neighbours = Nobody()


def register(neighbours: Neighbours) -> None:
    """Use `neighbours` in this process."""
    global _present
    _present = neighbours


def present() -> Neighbours:
    return _present
