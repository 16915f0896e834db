"""The memory of processes and of a Mac, with a stub in the place of its libraries."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import psutil
import pytest

from backends.mac import memory

GB = 2**30
FOOTPRINT, PEAK = 3 * GB, 5 * GB
_FOOTPRINT_AT, _PEAK_AT, _SIZE = 72, 240, 296  # bytes into rusage_info_v4 of macOS's SDK


class LibProc:
    """libproc of a Mac: it fills the struct where Apple's headers have the two figures."""

    allowed = True

    def __init__(self, name: str) -> None:
        assert name == "/usr/lib/libproc.dylib"

    def proc_pid_rusage(self, pid: int, flavour: int, reference: Any) -> int:
        assert (pid, flavour) == (os.getpid(), 4)
        if not self.allowed:
            return -1
        usage = reference._obj
        assert ctypes.sizeof(usage) == _SIZE
        for place, value in ((_FOOTPRINT_AT, FOOTPRINT), (_PEAK_AT, PEAK)):
            ctypes.c_uint64.from_buffer(usage, place).value = value
        return 0


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", LibProc)


@pytest.mark.usefixtures("mac")
def test_a_mac_is_asked_for_the_physical_footprint() -> None:
    assert (memory.footprint(), memory.peak_footprint()) == (FOOTPRINT, PEAK)


@pytest.mark.usefixtures("mac")
def test_where_a_mac_refuses_the_resident_set_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LibProc, "allowed", False)

    class Process:
        def __init__(self, pid: int | None) -> None: ...

        def memory_info(self) -> Any:
            return type("Info", (), {"rss": 7})

    monkeypatch.setattr(psutil, "Process", Process)
    assert memory.footprint() == 7


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's own figures")
def test_linux_has_its_resident_set() -> None:
    block = bytearray(os.urandom(1)) * (64 << 20)
    held = memory.footprint()
    assert held > len(block)
    assert memory.peak_footprint() >= held


@pytest.mark.parametrize(
    ("ram", "wired", "budget"),
    [
        (16, 0, 0.9 * 16 * 2 / 3),
        (36, 0, 0.9 * 24),
        (64, 0, 0.9 * 48),
        (64, 56, 0.75 * 64),  # as the user set iogpu.wired_limit_mb
        (64, 32, 0.9 * 32),
    ],
)
def test_a_mac_gets_the_lesser_of_its_memory_and_of_its_gpus(
    ram: int, wired: int, budget: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_ram", lambda: ram * GB)
    monkeypatch.setattr(memory, "_wired_limit", lambda: wired * GB)
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    assert memory.default_budget() == pytest.approx(budget * GB, abs=2)
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "cpu")
    assert memory.default_budget() == ram * GB * 3 // 4


def test_the_limit_of_the_gpu_is_read_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class System:
        def __init__(self, name: None) -> None: ...

        def sysctlbyname(self, name: bytes, value: Any, size: Any, *rest: Any) -> int:
            assert name == b"iogpu.wired_limit_mb"
            value._obj.value = 20_000
            return 0

    assert memory._wired_limit() == 0 or sys.platform == "darwin"
    monkeypatch.setattr(ctypes, "CDLL", System)
    assert memory._wired_limit() == 20_000 * 2**20
