"""Training on a Mac: what its readings say, and how its processes end."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from tests.mac import PMSET_LOW, Mac
from training.machine import processes, readings
from training.machine.readings import Reading

# `sysctl -n kern.memorystatus_vm_pressure_level`: 1 normal, 2 warning, 4 critical


def on_battery(plugged: bool | None) -> Any:
    return SimpleNamespace(percent=48, power_plugged=plugged) if plugged is not None else None


@pytest.fixture
def battery(monkeypatch: pytest.MonkeyPatch) -> Any:
    def put(plugged: bool | None) -> None:
        monkeypatch.setattr(psutil, "sensors_battery", lambda: on_battery(plugged), raising=False)

    put(None)  # a Mac mini
    return put


def test_a_mac_that_is_well(libsystem: Any, mac: Mac, battery: Any) -> None:
    mac.put_pmset()
    mac.put("sysctl", "1\n")
    assert readings.read() == Reading()
    assert mac.asked == ["sysctl -n kern.memorystatus_vm_pressure_level"]


def test_a_mac_under_every_pressure(libsystem: Any, mac: Mac, battery: Any) -> None:
    mac.put_pmset(PMSET_LOW)
    mac.put("sysctl", "2\n")
    battery(False)
    ctypes.c_uint64.in_dll(libsystem, "level").value = 2
    assert readings.read() == Reading(memory_low=True, on_battery=True, heat=2, low_power=True)


def test_a_mac_without_its_programs_is_well(libsystem: Any, mac: Mac, battery: Any) -> None:
    assert readings.read() == Reading()


def test_elsewhere_no_program_of_a_mac_is_asked(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for program in ("pmset", "sysctl"):
        mac.put(program, "lowpowermode 1\n")
    readings.read()
    assert mac.asked == []


def test_a_group_of_zombies_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, number: int) -> None:
        assert (pid, number) == (4711, signal.SIGKILL)
        raise PermissionError(1, "Operation not permitted")  # as macOS answers

    monkeypatch.setattr(os, "killpg", refuse)
    processes.kill_group(4711)
