"""How long an attempt was in each phase: for the job's row, and as spans where it is traced."""

from __future__ import annotations

import time
from collections.abc import Mapping

from registry import traces

_MOST_SPANS = 200  # of an attempt: one that evaluates after each step has thousands of phases


class Phases:
    """A phase is the first word of a stage. `known` are the seconds of earlier attempts; this one is in
    "starting" since its process `began`, in seconds since 1970."""

    def __init__(self, known: Mapping[str, float], began: float) -> None:
        self._seconds = dict(known)
        self._phase = "starting"
        self._since = int(began * 1e9)
        self._spans = 0

    def enter(self, stage: str) -> dict[str, float]:
        """Begin the phase of `stage`, "" for none; the seconds of all that are over."""
        phase, now = stage.split(" ")[0], time.time_ns()
        if phase != self._phase:
            self._end(now)
            self._phase, self._since = phase, now
        return {name: round(seconds, 3) for name, seconds in self._seconds.items()}

    def _end(self, now: int) -> None:
        if not self._phase:
            return
        lasted = max(0, now - self._since) / 1e9
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + lasted
        self._spans += 1
        if self._spans <= _MOST_SPANS:
            traces.past(self._phase, self._since, now)
