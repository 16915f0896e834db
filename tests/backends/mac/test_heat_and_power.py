"""Heat and Low Power Mode as macOS reports them, and the assertion that keeps a Mac awake."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import pytest

from backends.mac import heat, power
from tests.mac import (
    PMSET,
    PMSET_LOW,
    PMSET_MODES,
    PMSET_MODES_LOW,
    THERM_SILENT,
    Mac,
)
from tests.running import wait_until

INTEL_COOL = (
    "Note: No thermal warning level has been recorded\nCPU Power notify\n"
    "\tCPU_Scheduler_Limit \t= 100\n\tCPU_Available_CPUs \t= 8\n\tCPU_Speed_Limit \t= 100\n"
)
INTEL_HOT = INTEL_COOL.replace("CPU_Speed_Limit \t= 100", "CPU_Speed_Limit \t= 54")
INTEL_WARM = INTEL_COOL.replace("CPU_Speed_Limit \t= 100", "CPU_Speed_Limit \t= 88")
WARNED = "Thermal Warning Level = 1\nNote: No CPU power status has been recorded\n"


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (THERM_SILENT, 0),
        (INTEL_COOL, 0),
        (INTEL_WARM, 1),
        (INTEL_HOT, 2),
        (WARNED, 1),
        ("", 0),
    ],
)
def test_heat_is_read_from_pmset(printed: str, expected: int) -> None:
    assert heat.speed_limit_heat(printed) == expected


@pytest.mark.parametrize(("level", "expected"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 2)])
def test_heat_is_what_macos_publishes_while_pmset_is_silent(
    level: int, expected: int, libsystem: Any, mac: Mac
) -> None:
    mac.put_pmset()
    ctypes.c_uint64.in_dll(libsystem, "level").value = level
    assert heat.pressure() == level
    assert heat.heat() == expected
    assert ctypes.c_int.in_dll(libsystem, "registered").value == 1


def test_the_hotter_of_both_counts(libsystem: Any, mac: Mac) -> None:
    mac.put_pmset(therm=INTEL_HOT)
    ctypes.c_uint64.in_dll(libsystem, "level").value = 1
    assert heat.heat() == 2


def test_a_mac_that_publishes_nothing_is_cool(libsystem: Any, mac: Mac) -> None:
    ctypes.c_int.in_dll(libsystem, "refuses").value = 1
    assert heat.pressure() is None
    assert heat.heat() == 0


def test_a_system_without_notify_is_cool(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        def __getattr__(self, name: str) -> Any:
            raise AttributeError(name)

    monkeypatch.setattr(heat, "library", Other)
    assert heat.pressure() is None


@pytest.mark.parametrize(
    ("printed", "low"),
    [(PMSET, False), (PMSET_LOW, True), (PMSET_MODES, False), (PMSET_MODES_LOW, True), ("", False)],
)
def test_low_power_mode_is_read_from_pmset(printed: str, low: bool, mac: Mac) -> None:
    mac.put_pmset(printed)
    assert power.low_power_mode() is low


def test_a_mac_stays_awake_while_there_is_work_and_a_minute_longer(
    mac: Mac, monkeypatch: pytest.MonkeyPatch
) -> None:
    mac.put("caffeinate")
    (mac._folder / "caffeinate").write_text(
        f'#!/bin/sh\necho "caffeinate $*" >> "{mac._folder}/asked"\nexec sleep 60\n'
    )
    now = [0.0]
    awake = power.Awake(clock=lambda: now[0])
    awake.look(False)
    assert awake._holding is None
    awake.look(True)
    held = awake._holding
    wait_until(lambda: mac.asked)
    assert mac.asked == [f"caffeinate -i -w {os.getpid()}"]
    now[0] = 30.0
    awake.look(True)
    now[0] = 30.0 + power.LINGER_S
    awake.look(False)
    assert awake._holding is held, "a conversation takes one assertion"
    now[0] += 1
    awake.look(False)
    assert awake._holding is None
    assert held.poll() is not None
    awake.look(True)
    assert awake._holding is not None
    awake.release()
    assert awake._holding is None


def test_an_assertion_that_ended_is_taken_again(mac: Mac) -> None:
    mac.put("caffeinate")
    now = [0.0]
    awake = power.Awake(clock=lambda: now[0])
    awake.look(True)
    awake._holding.wait(10)
    now[0] = power.AGAIN_S / 2
    awake.look(True)
    now[0] = power.AGAIN_S
    awake.look(True)
    awake._holding.wait(10)
    assert len(mac.asked) == 2, "one that ends at once is not started at every look"
    awake.release()


def test_a_program_that_cannot_start_ends_nothing(mac: Mac) -> None:
    mac.put("caffeinate")
    (mac._folder / "caffeinate").write_bytes(
        b"\0"
    )  # of another processor: OSError, as without memory
    assert power.caffeinate("-i") is None
    awake = power.Awake()
    awake.look(True)
    assert awake._holding is None


def test_a_program_of_that_name_elsewhere_is_left_alone(
    mac: Mac, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's `caffeine` has one that takes a command."""
    mac.put("caffeinate")
    monkeypatch.setattr(sys, "platform", "linux")
    assert power.caffeinate("-i", "-w", "4711") is None
    assert mac.asked == []


def test_without_caffeinate_nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("PATH", "/nowhere")
    awake = power.Awake()
    awake.look(True)
    assert awake._holding is None
    awake.release()
