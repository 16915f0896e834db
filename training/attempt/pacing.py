"""One machine shared with people: training holds still between two steps, and between two batches
of a long evaluation, when others need it.

Each reason has a limit per step, so that training goes on whatever happens; only a job that was
told to pause on battery waits for the plug.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from django.conf import settings

from backends.base import Evaluating, Stepped, TrainingEvent
from training.machine import neighbours, readings

TICK_S = 0.05  # how soon it is noticed that the reason has gone
READ_EVERY_S = 5.0  # the machine changes slowly, and asking it costs a process on macOS
ASK_EVERY_S = 0.1  # quick steps need not ask the engine each time
MEMORY_LIMIT_S = 30.0
COOLING_LIMIT_S = 60.0
_COOLING = (0.0, 0.5, 2.0)  # cooldown by heat, in lengths of the step before


@dataclass(frozen=True)
class Manners:
    """How considerate training is; see HUB_TRAINING_YIELD_S and HUB_TRAINING_ON_BATTERY."""

    chat_s: float = 5.0  # at most, per step
    on_battery: Literal["run", "slow", "pause"] = "slow"

    @classmethod
    def configured(cls) -> Manners:
        return cls(settings.TRAINING_YIELD_S, settings.TRAINING_ON_BATTERY)


class Pace:
    """Call `after` with each event. `hold(reason, seconds)` is told while training holds still,
    `heed` raises what ends the wait: a cancel, a pause, a worker that stops."""

    def __init__(
        self,
        hold: Callable[[str, float], None],
        heed: Callable[[], None],
        *,
        manners: Manners | None = None,
        read: Callable[[], readings.Reading] = readings.read,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._hold, self._heed = hold, heed
        self._manners = manners or Manners.configured()
        self._read, self._clock, self._sleep = read, clock, sleep
        self._reading = readings.Reading()
        self._read_at = self._asked_at = float("-inf")
        self._someone_waits = False
        self._stepping_since = clock()

    def after(self, event: TrainingEvent) -> float:
        """Hold still if somebody needs the machine; the seconds that took."""
        held = 0.0
        if isinstance(event, Stepped | Evaluating):
            held = self._yield(self._clock() - self._stepping_since)
        self._stepping_since = self._clock()
        return held

    def _yield(self, step_s: float) -> float:
        began = last = self._clock()
        told_at = float("-inf")
        while reason := self.reason(last - began, step_s):
            if last - told_at >= 1.0:
                self._heed()
                told_at = last
            self._sleep(TICK_S)
            now = self._clock()
            self._hold(reason, now - last)
            last = now
        if last > began:
            self._hold("", 0.0)
        return last - began

    def reason(self, held_s: float, step_s: float) -> str:
        """Why to hold still still, after `held_s` behind a step of `step_s`; empty: go on."""
        now = self._clock()
        if now - self._read_at >= READ_EVERY_S:
            self._reading, self._read_at = self._read(), now
        if held_s < self._manners.chat_s and self._chatting(now):
            return "someone is chatting"
        if self._reading.memory_low and held_s < MEMORY_LIMIT_S:
            return "memory is low"
        if self._reading.on_battery and self._manners.on_battery == "pause":
            return "on battery; plug in to go on"
        if self._reading.on_battery and self._manners.on_battery == "slow" and held_s < step_s:
            return "on battery, at half speed"
        if held_s < min(COOLING_LIMIT_S, _COOLING[self._reading.heat] * step_s):
            return "cooling down"
        return ""

    def _chatting(self, now: float) -> bool:
        if now - self._asked_at >= ASK_EVERY_S:
            self._someone_waits, self._asked_at = neighbours.present().someone_waits(), now
        return self._someone_waits
