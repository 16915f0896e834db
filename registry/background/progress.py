"""How long work says how far it is: to a row that a page shows, or to nobody."""

from __future__ import annotations

from typing import Protocol


class Telling(Protocol):
    """Told what is being done from now on, and that the work is alive."""

    def stage(self, text: str) -> None: ...

    def beat(self) -> None: ...


class Sharing(Telling, Protocol):
    """Also told the share of the stage that is done, 0 to 1."""

    def part(self, share: float) -> None: ...


class Counting(Telling, Protocol):
    """Also told how many examples are read, and the share of the stage that is done, 0 to 1."""

    def progress(self, examples: int, share: float) -> None: ...


class Silent:
    """Tells nobody."""

    def stage(self, text: str) -> None:
        """Say nothing."""

    def part(self, share: float) -> None:
        """Say nothing."""

    def progress(self, examples: int, share: float) -> None:
        """Say nothing."""

    def beat(self) -> None:
        """Say nothing."""


SILENT = Silent()
