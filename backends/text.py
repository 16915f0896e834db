"""Stop strings in streamed text: one rule for every backend."""

from __future__ import annotations

from collections.abc import Sequence


class StopText:
    """Cuts a stream of text before the first stop string.

    Text that may be the beginning of a stop string is held back until it is clear, so that a
    reader never sees part of one.
    """

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(s for s in stop if s)
        self._held = ""
        self.stopped = False
        self.found = ""  # what stopped it

    def push(self, text: str) -> str:
        """Add the next piece; return the text that may be shown. Nothing comes after a stop."""
        if not self._stop:
            return text
        if self.stopped or not text:
            return ""
        text = self._held + text
        found = [(at, s) for s in self._stop if (at := text.find(s)) >= 0]
        if found:
            at, self.found = min(found, key=lambda place: place[0])
            self.stopped, self._held = True, ""
            return text[:at]
        held = max(overlap(text, s) for s in self._stop)
        shown = len(text) - held
        self._held = text[shown:]
        return text[:shown]

    def flush(self) -> str:
        """The text ended: return what was held back, which is plain text after all."""
        held, self._held = self._held, ""
        return held


def overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop` without completing it."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
