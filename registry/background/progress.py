"""How long work reports how far it is: to its row, to a terminal, or to nobody."""

from __future__ import annotations


class Progress:
    """Reports to nobody; what reports to somebody extends this."""

    def stage(self, text: str) -> None:
        """What is being done from now on."""

    def part(self, share: float, **counts: int) -> None:
        """The share of the stage that is done, 0 to 1, and what was counted on the way, such as
        `examples` or `done_bytes`, or is measured now, such as `bytes_per_second`."""

    def beat(self) -> None:
        """The work is alive. Called at least every minute or so where nothing else is reported."""


SILENT = Progress()
