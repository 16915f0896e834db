"""Checks this machine and the hub: what was found, what is wrong, and how to fix it."""

from __future__ import annotations

import platform
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import psutil
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from backends import devices, get_backend
from backends.mac.folders import syncing
from backends.mac.programs import has_git, is_apple_silicon, system_version
from hub.config import ENV_FILES, config, unknown_settings
from hub.monitoring.health import LOW_DISK_BYTES, NO_DISK_BYTES, running_engine_stats
from hub.monitoring.logs import PROCESSES
from hub.processes import descriptors, exposure, ports, presence
from hub.sqlite import journal_mode, wal_is_safe
from registry.commands import typed
from registry.mlflow import tracking
from registry.storage import paths
from registry.storage.sizes import GB, human
from training.machine import readings

_OLDEST_MACOS = (14,)
_HOT = 2  # of a reading's heat


@dataclass(frozen=True)
class Finding:
    """One line of the report. `fix` says what to do when the state is not ok."""

    name: str
    state: Literal["ok", "warning", "failed"]
    found: str
    fix: str = ""


def examine() -> Iterator[Finding]:
    """All findings, as they are made. A check that raises is a finding, too."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _settings,
        _mac,
        _device,
        _compiler,
        _sqlite,
        _database,
        _mlflow,
        _memory,
        _descriptors,
        _disk,
        _storage,
        _network,
        _processes,
    )
    for check in checks:
        try:
            yield from check()
        except Exception as error:
            name = check.__name__.removeprefix("_").replace("_", " ").capitalize()
            yield Finding(
                name,
                "failed",
                f"{type(error).__name__}: {error}",
                "This is a bug; please report it.",
            )


def _python() -> Iterator[Finding]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    ok = sys.version_info[:2] == (3, 12)
    yield Finding("Python", "ok" if ok else "warning", found, "Use Python 3.12.")


def _settings() -> Iterator[Finding]:
    read = [str(file) for file in reversed(ENV_FILES) if file.exists()]
    said = ", then ".join(["from the environment", *read])
    if missing := [str(file) for file in reversed(ENV_FILES) if not file.exists()]:
        said += f" (not there: {', '.join(missing)})"
    if ignored := list(unknown_settings()):
        todo = "Correct or remove them; `.env.example` lists the settings."
        yield Finding("Settings", "warning", f"not known and ignored: {', '.join(ignored)}", todo)
    else:
        yield Finding("Settings", "ok", said)


def _mac() -> Iterator[Finding]:
    if sys.platform != "darwin":
        return
    version = system_version()
    yield Finding(
        "macOS",
        "ok" if version >= _OLDEST_MACOS else "failed",
        ".".join(map(str, version)),
        "MLX needs macOS 14 or later: update in System Settings › General › Software Update.",
    )
    if platform.machine() != "arm64":
        yield Finding("Processor", "failed", f"{platform.machine()}, not arm64", _wrong_python())
    git = "git can be asked" if has_git() else "no git, so versions record no commit"
    yield Finding("git", "ok", git)
    now = readings.read()
    said = [("cool", "warm", "hot")[now.heat], "on battery" if now.on_battery else "plugged in"]
    yield Finding(
        "Power",
        "warning" if now.low_power or now.heat == _HOT else "ok",
        ", ".join([*said, *(["Low Power Mode"] if now.low_power else [])]),
        "The Mac runs at about half its speed: turn off Low Power Mode in System Settings › Battery."
        if now.low_power
        else "The Mac slows down to cool: give it air, or wait.",
    )


def _wrong_python() -> str:
    if is_apple_silicon():
        return (
            "This Python was built for Intel and runs under Rosetta, where MLX does not: delete .venv "
            "and run `uv sync --python cpython-3.12-macos-aarch64`; a uv from an Intel Homebrew "
            "(/usr/local) must be replaced first."
        )
    return (
        "MLX needs a Mac with Apple silicon; without a model, HUB_BACKEND=fake tries out the rest."
    )


def _device() -> Iterator[Finding]:
    device = get_backend(config.backend).device()
    versions = ", ".join(f"{name} {version}" for name, version in device.versions.items())
    yield Finding(
        "Device", "ok", f"{device.device}: {device.name}{f' ({versions})' if versions else ''}"
    )
    yield Finding(
        "BLAS",
        "warning" if device.blas == "reference" else "ok",
        device.blas,
        "Install the package mkl (x86-64) or the system's libopenblas.",
    )
    for warning in device.warnings:
        yield Finding("Device", "warning", warning)


def _compiler() -> Iterator[Finding]:
    if sys.platform != "linux":
        return
    compiler = shutil.which("g++")
    yield Finding(
        "Compiler",
        "ok" if compiler else "warning",
        compiler or "no g++; MLX cannot compile fused CPU kernels and runs slower",
        "Install g++ (on Debian: apt install g++).",
    )


def _sqlite() -> Iterator[Finding]:
    version = sqlite3.sqlite_version_info
    safe = wal_is_safe((version[0], version[1], version[2]))
    yield Finding(
        "SQLite",
        "ok" if safe else "warning",
        f"{sqlite3.sqlite_version}, journal mode {journal_mode()}",
        "This SQLite lacks the WAL-reset fix, so the hub uses the slower DELETE mode. The package "
        "pysqlite3 brings a newer one: run `uv sync`.",
    )


def _database() -> Iterator[Finding]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        yield Finding("Database", "failed", str(error).splitlines()[0], "Check DATABASE_URL.")
        return
    executor = MigrationExecutor(connection)
    waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    state: Literal["ok", "warning"] = "warning" if waiting else "ok"
    found = f"connected ({connection.display_name})" + (
        f", {len(waiting)} migrations not applied" if waiting else ""
    )
    yield Finding(
        "Database", state, found, f"Run `{typed('migrate')}`; `{typed('up')}` does that, too."
    )


def _mlflow() -> Iterator[Finding]:
    problem = tracking.ping()
    where = config.mlflow_tracking_uri or "embedded store in storage"
    if problem is None:
        yield Finding("MLflow", "ok", where)
    else:
        yield Finding(
            "MLflow", "failed", problem, "Start the server, or unset MLFLOW_TRACKING_URI."
        )


def _memory() -> Iterator[Finding]:
    memory = psutil.virtual_memory()
    budget = config.memory_budget_bytes
    total = devices.video_memory() or memory.total
    found = f"budget {human(budget)} of {human(total)}, {human(memory.available)} available now"
    if budget > total:
        yield Finding("Memory", "failed", found, "Lower HUB_MEMORY_BUDGET_GB.")
    else:
        short = memory.available < min(budget, 2 * GB)
        yield Finding("Memory", "warning" if short else "ok", found, "Close other programs.")


def _disk() -> Iterator[Finding]:
    paths.root().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(paths.root()).free
    state: Literal["ok", "warning", "failed"] = "ok"
    if free < LOW_DISK_BYTES:
        state = "failed" if free < NO_DISK_BYTES else "warning"
    yield Finding(
        "Disk",
        state,
        f"{human(free)} free at {paths.root()}",
        "Free some space or move the storage folder.",
    )


def _storage() -> Iterator[Finding]:
    """What the drive and the system do to storage; nothing to say of an ordinary folder."""
    if service := syncing(paths.root()):
        yield Finding(
            "Storage",
            "warning",
            f"{paths.root()} is uploaded by {service}, which may also take files off this disk",
            "Set HUB_STORAGE to a folder outside, such as ~/mlx-hub, or to one whose name ends in "
            ".nosync, and move the files there while the hub is stopped.",
        )
    if not paths.keeps_sockets(paths.run_dir()):
        yield Finding(
            "Storage",
            "warning",
            f"this drive keeps no Unix sockets, so the engine's is {paths.engine_socket()}; most such "
            "drives (exFAT, FAT, network) keep no access rights either: others can read what it holds",
            "Move storage to a drive formatted as APFS (on Linux: ext4).",
        )


def _descriptors() -> Iterator[Finding]:
    open_files = descriptors.raise_limit()
    yield Finding(
        "Open files",
        "ok" if open_files >= descriptors.ENOUGH else "warning",
        f"{open_files:,} at most per process",
        "The hard limit is low, and 500 streams at once need more: start the hub where "
        "`ulimit -Hn` is higher.",
    )


def _network() -> Iterator[Finding]:
    where = f"{config.host}:{config.port}"
    problem = exposure.problem(config)
    if problem:
        yield Finding("Address", "failed", where, problem)
        return
    if presence.alive("web"):
        yield Finding("Address", "ok", f"{where}, used by the hub's web process")
        return
    reason = ports.obstacle(config.host, config.port)
    yield Finding(
        "Address",
        "failed" if reason else "ok",
        f"{where} is {f'used by another program ({reason})' if reason else 'free'}",
        ports.remedy(config.port),
    )


def _processes() -> Iterator[Finding]:
    running = {name: presence.pid(name) for name in PROCESSES}
    found = ", ".join(f"{name} {pid or 'not running'}" for name, pid in running.items())
    some = [name for name, pid in running.items() if pid]
    partly = bool(some) and len(some) < len(PROCESSES)
    yield Finding(
        "Processes",
        "warning" if partly else "ok",
        found if some else f"the hub is not running; start it with `{typed('up')}`",
        f"Start all of them with `{typed('up')}`; its log says why a process exited.",
    )
    if running["engine"] and running_engine_stats() is None:
        yield Finding(
            "Engine",
            "failed",
            "its process runs, but does not answer within a second",
            "It may be loading a model; if it stays so, end that process: `up` starts another.",
        )
