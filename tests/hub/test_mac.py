"""The hub on a Mac: ports, the doctor's findings, the GPU's load, drives without sockets or links."""

from __future__ import annotations

import errno
import io
import os
import platform
import plistlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from backends.mac import programs
from hub.config import ROOT, load
from hub.management.commands import demo
from hub.monitoring import doctor, sampler
from hub.processes import belonging, lifeline, ports
from hub.processes.supervisor import CannotStart, Child, Supervisor, check_port
from registry.background import children
from registry.storage import paths
from tests.mac import NO_TOOLS, PMSET_LOW, Mac

# ------------------------------------------------------------------------ ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_that_macos_would_share_is_taken(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "_bind", lambda *_: None)  # as BSD, beside one on all addresses
    with pytest.raises(CannotStart, match=f"Port {taken} of 127.0.0.1 cannot be used"):
        check_port("127.0.0.1", taken)


def test_a_port_that_nobody_answers_is_free(taken: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    assert ports.obstacle("127.0.0.1", free) is None
    assert ports.obstacle("127.0.0.1", taken) == os.strerror(errno.EADDRINUSE)


@pytest.fixture
def airplay(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    """AirPlay Receiver has its ports on every address, so 127.0.0.1 can be bound beside it."""
    monkeypatch.setattr(ports, "_bind", lambda *_: None)
    monkeypatch.setattr(ports, "answers", lambda host, port: port in (5000, 7000))


@pytest.mark.parametrize("port", [5000, 7000])
def test_airplays_ports_are_named_with_another(port: int, airplay: None) -> None:
    with pytest.raises(CannotStart) as refused:
        check_port("127.0.0.1", port)
    assert "AirPlay Receiver listens there" in str(refused.value)
    assert f"HUB_PORT={port + 1}" in str(refused.value)


def test_airplay_is_not_blamed_elsewhere(airplay: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ports.obstacle("127.0.0.1", 8000) is None
    assert "AirPlay" not in ports.remedy(8000)
    monkeypatch.setattr(sys, "platform", "linux")
    assert "AirPlay" not in ports.remedy(5000)
    assert "AirPlay" not in ports.obstacle("127.0.0.1", 5000)


def test_the_demo_takes_another_port_and_says_why(
    airplay: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "config", load(port=5000))
    said = io.StringIO()
    port = demo._free_port(Console(file=said, width=200))
    assert port != 5000
    assert said.getvalue() == (
        f"Port 5000 cannot be used (macOS's AirPlay Receiver listens there), so the hub takes {port}.\n"
    )


def test_long_work_keeps_a_mac_awake_and_lets_it_sleep(mac: Mac) -> None:
    mac.put("caffeinate")
    noted = f"for i in $(seq 100); do [ -e {mac._folder}/asked ] && break; sleep .1; done"
    with subprocess.Popen(["sh", "-c", noted]) as child:
        children._await(child, lambda: pytest.fail("it did not fail"))
    assert mac.asked == [f"caffeinate -i -w {child.pid}"]


# ------------------------------------------------------------------------ the doctor


def found(*checks: Any) -> dict[str, doctor.Finding]:
    return {finding.name: finding for check in checks for finding in check()}


@pytest.fixture
def silicon(mac: Mac, libsystem: Any, monkeypatch: pytest.MonkeyPatch) -> Mac:
    """An M-series Mac with macOS 26, its tools and an arm64 Python."""
    mac.put_pmset()
    mac.put("sysctl", "1\n")
    mac.put("git")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("26.1", ("", "", ""), "arm64"))
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    return mac


def test_a_mac_that_is_right(silicon: Mac) -> None:
    findings = found(doctor._mac, doctor._storage)
    assert {finding.state for finding in findings.values()} == {"ok"}
    assert findings["macOS"].found == "26.1"
    assert findings["Power"].found.startswith("cool, ")
    assert "Processor" not in findings


def test_elsewhere_the_doctor_says_nothing_of_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert found(doctor._mac, doctor._storage) == {}


def test_an_old_macos_is_named(silicon: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "mac_ver", lambda: ("13.7.8", ("", "", ""), "arm64"))
    macos = found(doctor._mac)["macOS"]
    assert (macos.state, macos.found) == ("failed", "13.7.8")
    assert "macOS 14 or later" in macos.fix


@pytest.mark.parametrize(("arm", "says"), [("1\n", "runs under Rosetta"), ("", "Apple silicon")])
def test_a_python_for_intel_is_named(
    arm: str, says: str, silicon: Mac, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    silicon.put("sysctl", arm)
    finding = found(doctor._mac)["Processor"]
    assert finding.state == "failed"
    assert says in finding.fix


def test_low_power_mode_and_heat_are_named(silicon: Mac, libsystem: Any) -> None:
    silicon.put_pmset(PMSET_LOW)
    power = found(doctor._mac)["Power"]
    assert power.state == "warning"
    assert "Low Power Mode" in power.found
    assert "System Settings › Battery" in power.fix
    silicon.put_pmset(therm="CPU_Speed_Limit \t= 50\n")
    power = found(doctor._mac)["Power"]
    assert power.found.startswith("hot")
    assert "cool" in power.fix


def test_a_git_that_opens_a_dialog_is_told_and_not_asked(
    silicon: Mac, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "_GIT", str(silicon._folder / "git"))
    silicon.put("xcode-select", code=2, error=NO_TOOLS)
    assert "no git" in found(doctor._mac)["git"].found
    assert not [line for line in silicon.asked if line.startswith("git")]


def test_no_compiler_is_asked_for_on_a_mac(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert found(doctor._compiler) == {}


def test_no_remedy_for_a_mac_speaks_of_another_system(
    silicon: Mac, monkeypatch: pytest.MonkeyPatch
) -> None:
    silicon.put_pmset(PMSET_LOW)
    silicon.put("sysctl", "")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(paths, "keeps_sockets", lambda folder: False)
    monkeypatch.setattr(doctor, "syncing", lambda folder: "iCloud Drive")
    checks = (doctor._mac, doctor._storage, doctor._compiler, doctor._sqlite, doctor._device)
    said = " ".join(finding.fix for check in checks for finding in check() if finding.state != "ok")
    assert "Rosetta" not in said  # an Intel Mac
    assert "apt" not in said.split()


def test_storage_in_icloud_is_named(silicon: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "syncing", lambda folder: "iCloud Drive")
    storage = found(doctor._storage)["Storage"]
    assert storage.state == "warning"
    assert "iCloud Drive" in storage.found
    assert ".nosync" in storage.fix


def test_the_readme_says_how_to_begin_on_a_fresh_mac() -> None:
    text = (ROOT / "README.md").read_text()
    assert "\npip install uv && uv run manage.py demo\n" in text
    for said in (
        "externally-managed-environment",
        "brew install uv",
        "macOS 14",
        "arm64",
        "git is not",
    ):
        assert said in text


# ------------------------------------------------------------------------ drives


class Exfat(socket.socket):
    """A socket on a drive that keeps none below storage; macOS 26 answers so."""

    def bind(self, address: Any) -> None:
        if str(address).startswith(str(paths.root())):
            raise OSError(errno.ENOTSUP, "Operation not supported on socket")
        super().bind(address)


@pytest.fixture
def exfat(mac: Mac, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Storage on such a drive, and a home elsewhere."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(socket, "socket", Exfat)
    monkeypatch.setattr(paths, "_SOCKET_BYTES", 400)  # pytest's folders are deep
    paths._binds.cache_clear()
    yield home
    paths._binds.cache_clear()


def test_on_exfat_the_engines_socket_is_at_home(exfat: Path) -> None:
    folder = exfat / "Library" / "Caches" / "mlx-model-hub"
    assert paths.engine_socket().parent == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    assert paths.engine_socket() == paths.engine_socket()
    assert list(paths.run_dir().glob(".probe*")) == []
    storage = found(doctor._storage)["Storage"]
    assert storage.state == "warning"
    assert str(paths.engine_socket()) in storage.found


def test_another_error_says_nothing_of_the_drive(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(socket.socket):
        def bind(self, address: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(socket, "socket", Full)
    paths._binds.cache_clear()
    assert paths.keeps_sockets(paths.run_dir())
    paths._binds.cache_clear()


def test_an_ordinary_drive_keeps_sockets() -> None:
    paths._binds.cache_clear()
    assert paths.keeps_sockets(paths.run_dir())
    assert list(paths.run_dir().glob(".probe*")) == []


def test_a_long_path_gets_a_socket_within_104_bytes(
    mac: Mac, monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", "/Users/a-user-with-a-rather-long-name")
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: None)
    monkeypatch.setattr(
        Path, "stat", lambda *_, **__: os.stat_result([0o40700, 0, 0, 0, os.getuid(), *[0] * 5])
    )
    settings.STORAGE = tmp_path / ("deep" * 30)
    path = paths.engine_socket()
    assert str(path).startswith("/Users/a-user-with-a-rather-long-name/Library/Caches/")
    assert len(os.fsencode(path)) < 104


def test_storage_on_a_drive_without_links_gets_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "link", link)
    made = belonging.storage_id()
    assert belonging.storage_id() == made
    assert [path.name for path in paths.root().glob("id*")] == ["id"]


def test_storage_is_left_alone_by_spotlight_and_time_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[tuple[Path, list[Path]]] = []
    monkeypatch.setattr(paths, "leave_alone", lambda root, again: given.append((root, again)))
    paths.make_folders()
    ((root, again),) = given
    assert root == paths.root()
    kept = {"active", "archive", "base", "datasets", "jobs", "uploads"}
    assert kept.isdisjoint(path.relative_to(root).as_posix() for path in again)
    assert root / "tokens" in again


# ------------------------------------------------------------------------ processes, GPU


IOREG = {
    "CFBundleIdentifier": "com.apple.AGXG16X",
    "IOClass": "AGXAcceleratorG16X",
    "gpu-core-count": 20,
    "model": "Apple M4 Pro",
    "PerformanceStatistics": {
        "Alloc system memory": 34170552320,
        "Allocated PB Size": 110100480,
        "Device Utilization %": 25,
        "In use system memory": 31463079936,
        "In use system memory (driver)": 0,
        "Renderer Utilization %": 12,
        "Tiler Utilization %": 3,
        "recoveryCount": 0,
    },
}


def test_the_gpus_load_is_read_from_ioreg(mac: Mac) -> None:
    mac.put("ioreg", plistlib.dumps([IOREG]))
    assert sampler.gpu_percent() == 25.0
    assert mac.asked == ["ioreg -r -d 1 -c IOAccelerator -a"]


def test_without_ioreg_the_load_is_unknown(mac: Mac) -> None:
    assert sampler.gpu_percent() is None
    mac.put("ioreg", code=1)
    assert sampler.gpu_percent() is None
    mac.put("ioreg", "not a property list")
    assert sampler.gpu_percent() is None


@pytest.mark.parametrize(("system", "niced"), [("darwin", False), ("linux", True)])
def test_the_engine_gives_way_on_linux_alone(
    system: str, niced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Started:
        pid, stdout = 4711, io.StringIO()

        def __init__(self, *_: object, **__: object) -> None: ...

    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(subprocess, "Popen", Started)
    monkeypatch.setattr(os, "setpriority", lambda *given: asked.append(given))
    hub = Supervisor(load())
    hub._pipe = (0, 0)
    child = Child("engine", ("run_engine",), nice=5)
    hub._spawn(child)
    child.reader.join()
    assert bool(asked) is niced
    assert lifeline.VARIABLE in hub._environment()
