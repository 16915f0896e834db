"""On a Mac each reading stands beside what the system printed for it."""

from __future__ import annotations

import ctypes
import plistlib
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from hub.selftest.tried import readers
from tests.mac import PMSET_LOW, THERM_SILENT, Mac

pytestmark = pytest.mark.any_database

IOREG = plistlib.dumps([{"PerformanceStatistics": {"Device Utilization %": 37}}])


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    battery = SimpleNamespace(percent=48, power_plugged=False)
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    return SimpleNamespace(kind="metal", quick=True)


def test_what_was_printed_stands_beside_what_was_made_of_it(
    libsystem: Any, mac: Mac, bench: Any
) -> None:
    mac.put_pmset(PMSET_LOW)
    mac.put("sysctl", "2\n")
    mac.put("ioreg", IOREG)
    ctypes.c_uint64.in_dll(libsystem, "level").value = 1
    found = readers.host(bench)
    raw, parsed = found.figures["raw"], found.figures["parsed"]
    assert found.state == "right"
    assert raw["pmset -g"] == "lowpowermode         1"
    assert raw["pmset -g therm"] == THERM_SILENT.strip()
    assert parsed == {
        "heat": 1,
        "thermal_pressure": 1,
        "on_battery": True,
        "low_power": True,
        "gpu_percent": 37.0,
        "memory_low": True,
    }
    assert "GPU 37 % busy" in found.said
    assert "hibernatefile" not in str(raw)  # no more than what is read


def test_a_gpu_whose_load_cannot_be_read_is_not_right(libsystem: Any, mac: Mac, bench: Any) -> None:
    mac.put_pmset()
    found = readers.host(bench)
    assert (found.state, "gpu_percent" in found.said) == ("not_right", True)
    assert found.figures["raw"]["thermal pressure"] == "(no such program)"


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("/Users/x/.local/share/uv/python/cpython-3.12-macos-aarch64-none", "uv"),
        ("/opt/homebrew/opt/python@3.12/Frameworks/Python.framework/Versions/3.12", "Homebrew"),
        ("/Library/Frameworks/Python.framework/Versions/3.12", "python.org"),
        ("/usr", "another place"),
    ],
)
def test_whose_python_it_is_is_told_without_its_place(
    place: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "base_prefix", place)
    assert readers.python_from() == named
