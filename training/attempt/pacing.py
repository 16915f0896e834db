"""Sharing the machine with people: training waits between two steps, and between two batches of a
long evaluation, while others need the machine.

Each reason has a limit per step, so that training always makes progress; only
HUB_TRAINING_ON_BATTERY=pause waits without a limit, until the machine is plugged in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from django.conf import settings

from backends.base import Evaluating, Stepped, Tokenizing, TrainingEvent
from training.machine import neighbours, readings

TICK_S = 0.05  # how soon the end of a reason is noticed
READ_EVERY_S = 5.0  # the machine changes slowly, and a reading starts a process on macOS
ASK_EVERY_S = 0.1  # with quick steps, not every step asks the engine
MEMORY_LIMIT_S = 30.0
COOLING_LIMIT_S = 60.0
_COOLING = (0.0, 0.5, 2.0)  # wait by heat level, in durations of the last step


@dataclass(frozen=True)
class Sharing:
    """When training pauses for others; see HUB_TRAINING_YIELD_S and HUB_TRAINING_ON_BATTERY."""

    chat_s: float = 5.0  # at most, per step
    on_battery: Literal["run", "slow", "pause"] = "slow"

    @classmethod
    def configured(cls) -> Sharing:
        return cls(settings.TRAINING_YIELD_S, settings.TRAINING_ON_BATTERY)


class Pace:
    """Call `after` with each event.

    While training waits, `hold(reason, seconds)` is called with the seconds since its last call, and
    `check_requests` raises what ends the wait: a cancel, a pause, a worker that stops.
    """

    def __init__(
        self,
        hold: Callable[[str, float], None],
        check_requests: Callable[[], None],
        *,
        sharing: Sharing | None = None,
        read: Callable[[], readings.Reading] = readings.read,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._hold, self._check_requests = hold, check_requests
        self._sharing = sharing or Sharing.configured()
        self._read, self._clock, self._sleep = read, clock, sleep
        self._reading = readings.Reading()
        self._read_at = self._asked_at = float("-inf")
        self._someone_waits = False
        self._step_began = clock()

    def after(self, event: TrainingEvent) -> float:
        """Wait while someone needs the machine; returns the seconds waited."""
        began = last = self._clock()
        if isinstance(event, Stepped | Evaluating | Tokenizing):
            step_s = began - self._step_began
            checked_at = float("-inf")
            while reason := self.reason(last - began, step_s):
                if last - checked_at >= 1.0:
                    self._check_requests()
                    checked_at = last
                self._sleep(TICK_S)
                now = self._clock()
                self._hold(reason, now - last)
                last = now
            if last > began:
                self._hold("", 0.0)
        self._step_began = self._clock()
        return last - began

    def reason(self, held_s: float, step_s: float) -> str:
        """Why to keep waiting, after `held_s` behind a step of `step_s`; empty: continue."""
        now = self._clock()
        if now - self._read_at >= READ_EVERY_S:
            self._reading, self._read_at = self._read(), now
        if held_s < self._sharing.chat_s and self._chatting(now):
            return "someone is chatting"
        if self._reading.memory_low and held_s < MEMORY_LIMIT_S:
            return "memory is low"
        if self._reading.on_battery and self._sharing.on_battery == "pause":
            return "on battery; plug in to continue"
        if self._reading.on_battery and self._sharing.on_battery == "slow" and held_s < step_s:
            return "on battery, at half speed"
        if self._reading.low_power and self._sharing.on_battery != "run" and held_s < step_s:
            return "in Low Power Mode, at half speed"
        if held_s < min(COOLING_LIMIT_S, _COOLING[self._reading.heat] * step_s):
            return "cooling down"
        return ""

    def _chatting(self, now: float) -> bool:
        if now - self._asked_at >= ASK_EVERY_S:
            self._someone_waits, self._asked_at = neighbours.present().someone_waits(), now
        return self._someone_waits
