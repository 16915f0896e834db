"""Who else lives on this machine, as training sees them: chats that wait, models in memory.

The engine belongs to inference, which training does not know; the hub registers the one that
asks it.
"""

from __future__ import annotations

from typing import Protocol


class Neighbours(Protocol):
    """Every method answers within a second, and as if nobody were there when nobody answers."""

    def held_bytes(self) -> int:
        """Memory that the models of the engine hold now."""
        ...

    def busy_bytes(self) -> int:
        """The part of `held_bytes` that makes no room: of models which answer somebody just now, or
        which are pinned."""
        ...

    def someone_waits(self) -> bool:
        """Whether somebody waits for tokens just now."""
        ...

    def make_room(self, nbytes: int) -> list[str]:
        """Have idle models that are not pinned evicted, the longest idle first, until `nbytes` are
        given back or no such model is left; the names of those that went."""
        ...


class Nobody:
    """An empty machine: what training sees where nothing else was registered."""

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
    """Let training know of `neighbours` in this process."""
    global _present
    _present = neighbours


def present() -> Neighbours:
    return _present
