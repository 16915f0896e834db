"""What the backends do differently on macOS, done here."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
from pathlib import Path

import psutil
import pytest

from backends import devices, durable
from backends.mlx import device
from backends.mlx.files import weight_files
from backends.mlx.serving import prefix_files
from tests.mac import Mac

FULL = 51  # F_FULLFSYNC


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How files were pushed to the disk."""
    how: list[str] = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", FULL, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda file, command: how.append(f"full {command}"))
    monkeypatch.setattr(os, "fsync", lambda file: how.append("plain"))
    return how


def test_a_mac_pushes_files_to_the_disk_itself(
    flushed: list[str], mac: Mac, tmp_path: Path
) -> None:
    durable.fsync(tmp_path)
    assert flushed == [f"full {FULL}"]


def test_elsewhere_a_plain_fsync_does(
    flushed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    durable.fsync(tmp_path)
    assert flushed == ["plain"]


def refuse(error: int) -> object:
    def raises(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    return raises


def test_a_drive_without_it_gets_a_plain_fsync(
    flushed: list[str], mac: Mac, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "fcntl", refuse(errno.ENOTSUP))
    durable.fsync(tmp_path)
    assert flushed == ["plain"]


def test_a_drive_that_pushes_no_folders_is_left_to_itself(
    mac: Mac, flushed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "fcntl", refuse(errno.ENOTSUP))
    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))
    durable.fsync(tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OSError, match="Invalid argument"):
        durable.fsync(file)
    monkeypatch.setattr(os, "fsync", refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        durable.fsync(tmp_path)


def test_prefixes_are_written_in_the_background(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "PRIO_DARWIN_THREAD", 3, raising=False)
    monkeypatch.setattr(os, "PRIO_DARWIN_BG", 0x1000, raising=False)
    monkeypatch.setattr(os, "setpriority", lambda *given: asked.append(given))
    prefix_files._lower_priority()
    assert asked == [(3, 0, 0x1000)]


def test_a_mac_computes_with_accelerate(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_blas", None)
    monkeypatch.setattr(device, "_prepare_linux", lambda: pytest.fail("not on a Mac"))
    assert device.prepare() == "accelerate"


def test_a_mac_counts_its_cores_without_affinity(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 14)
    assert devices.threads() == 14


def test_memory_is_given_back_without_glibc(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    device.prepare()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("glibc alone has it"))
    device.free_memory()


def test_peak_memory_is_known_without_proc(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    device.prepare()
    monkeypatch.setattr(Path, "read_text", refuse(errno.ENOENT))
    assert device.peak_memory() >= 0
    assert device.held_memory() >= psutil.Process().memory_info().rss * 0.5


def test_holes_are_looked_for_where_the_drive_tells_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"")
    os.truncate(path, 1 << 20)
    monkeypatch.setattr(os, "lseek", refuse(errno.EINVAL))  # HFS+, exFAT
    weight_files.refuse_holes(path)
