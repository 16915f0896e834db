"""What this machine is, and what each reader of it printed beside what was made of it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import django
import psutil

from backends.durable import sync_folder
from backends.mac import heat
from backends.mac.memory import footprint, peak_footprint
from backends.mac.programs import system_version
from hub.config import config
from hub.selftest.bench import Bench
from hub.selftest.report import Outcome, judged
from hub.sqlite import journal_mode
from training.machine import readings

_LIBRARIES = (
    "mlx",
    "mlx-metal",
    "mlx-cuda",
    "mlx-lm",
    "llguidance",
    "numpy",
    "django",
    "transformers",
)
_SYSCTLS = (
    "machdep.cpu.brand_string",
    "hw.memsize",
    "hw.perflevel0.physicalcpu",
    "hw.perflevel1.physicalcpu",
    "hw.pagesize",
    "iogpu.wired_limit_mb",
    "kern.osproductversion",
    "sysctl.proc_translated",
    "vm.swapusage",
)
_LONGEST = 4000  # characters kept of what a program printed
STREAMS = 500


def facts() -> dict[str, Any]:
    """The machine and its software; nothing that says whose it is."""
    memory = psutil.virtual_memory()
    return {
        "system": platform.system(),
        "release": platform.release(),
        "macos": ".".join(map(str, system_version())),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "swap_used_bytes": psutil.swap_memory().used,
        "load_a_core": readings_load(),
        "on_battery": readings.on_battery(),
        "low_power": readings.low_power(),
        "python": platform.python_version(),
        "python_build": f"{platform.python_compiler()}, {python_from()}",
        "sqlite": sqlite3.sqlite_version,
        "journal_mode": journal_mode(),
        "budget_bytes": config.memory_budget_bytes,
        "libraries": {name: _version(name) for name in _LIBRARIES if _version(name)},
        "assumed_device": os.environ.get("HUB_ASSUMED_DEVICE", ""),
        "sysctl": {name: printed("sysctl", "-n", name) for name in _SYSCTLS}
        if sys.platform == "darwin"
        else {},
    }


def readings_load() -> float:
    """Processes that want a core, for each core there is, over the last minute."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except OSError:
        return 0.0


def python_from() -> str:
    """Whose Python it is, by where it lies; the place itself stays here."""
    place = str(Path(sys.base_prefix).resolve())
    known = {
        "/uv/": "uv",
        "homebrew": "Homebrew",
        "Cellar": "Homebrew",
        "Python.framework": "python.org",
        "pyenv": "pyenv",
        "conda": "conda",
    }
    return next((name for part, name in known.items() if part in place), "another place")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def printed(*command: str) -> str:
    """What a program printed, or why it printed nothing."""
    try:
        answer = subprocess.run(command, capture_output=True, timeout=5, text=True, check=False)
    except FileNotFoundError:
        return "(no such program)"
    except (OSError, subprocess.SubprocessError) as error:
        return f"({type(error).__name__})"
    said = answer.stdout.strip() or answer.stderr.strip()
    return said[:_LONGEST]


def read_all(readers: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """What each reader gives; one that fails gives its error."""
    found = {}
    for name, reader in readers.items():
        try:
            found[name] = reader()
        except Exception as error:
            found[name] = f"failed with {type(error).__name__}: {error}"
    return found


# ------------------------------------------------------------------------- readers


def memory_now() -> dict[str, Any]:
    """What this process holds, by each reader of it."""
    from backends.mlx.device import held_memory, peak_memory

    return read_all(
        {
            "held": held_memory,
            "peak": peak_memory,
            "footprint": footprint,
            "most_footprint": peak_footprint,
            "resident": lambda: psutil.Process().memory_info().rss,
            "most_resident": lambda: _most_resident(),
        }
    )


def _most_resident() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def memory(bench: Bench) -> Outcome:
    """Holds an array of known size, and looks whether every reader sees it."""
    from backends.mlx.selftest import rates

    size = bench.few(1 << 30, 64 << 20)
    before = memory_now()
    with rates.holding(size):
        during = memory_now()
    after = memory_now()
    grew = during["held"] - before["held"]
    figures = {
        "array_bytes": size,
        "before": before,
        "during": during,
        "after": after,
        "mlx": rates.facts(),
        "device_bytes": bench.device.memory_bytes,
        "pressure": {
            "raw": printed("sysctl", "-n", "kern.memorystatus_vm_pressure_level"),
            "low": readings.memory_is_low(),
        },
        "programs": {
            "vm_stat": printed("vm_stat"),
            "footprint": _lines("phys_footprint", "footprint", "-p", str(os.getpid())),
        }
        if sys.platform == "darwin"
        else {},
    }
    return judged(
        0.9 * size <= grew <= 1.3 * size,
        f"An array of {size / 1e6:.0f} MB is seen as {grew / 1e6:.0f} MB.",
        "The memory budget cannot be kept here; please send the whole report.",
        **figures,
    )


def host(bench: Bench) -> Outcome:
    """Heat, power and GPU load. A reader must not fail; what is hot or busy is nobody's fault."""
    django.setup()
    from hub.monitoring import sampler

    raw = read_all({"battery": psutil.sensors_battery, "temperatures": _temperatures})
    if sys.platform == "darwin":
        raw |= {
            "thermal pressure": printed(
                "notifyutil", "-g", "com.apple.system.thermalpressurelevel"
            ),
            "pmset -g therm": printed("pmset", "-g", "therm"),
            "pmset -g batt": printed("pmset", "-g", "batt"),
            "pmset -g": _lines("powermode", "pmset", "-g"),
            "pmset -g assertions": _counted_assertions(),
            # The rest of the registry has identifiers.
            "ioreg": _lines(
                "PerformanceStatistics", "ioreg", "-r", "-d", "1", "-c", "IOAccelerator"
            ),
        }
    parsed = read_all(
        {
            "heat": readings.heat,
            "thermal_pressure": heat.pressure,
            "on_battery": readings.on_battery,
            "low_power": readings.low_power,
            "gpu_percent": sampler.gpu_percent,
            "memory_low": readings.memory_is_low,
        }
    )
    failed = [name for name, value in parsed.items() if str(value).startswith("failed with")]
    if bench.kind != "cpu" and parsed["gpu_percent"] is None:
        failed.append("gpu_percent")
    if failed:
        said = f"{', '.join(failed)} cannot be read."
    else:
        said = f"heat {parsed['heat']} of 2, {'on battery' if parsed['on_battery'] else 'on mains'}"
        gpu = parsed["gpu_percent"]
        said += "." if gpu is None else f", GPU {gpu:.0f} % busy."
    return judged(not failed, said, "Please send the whole report.", raw=raw, parsed=parsed)


def _counted_assertions() -> str:
    """The system-wide counts alone: the lines below them name programs."""
    lines = printed("pmset", "-g", "assertions").splitlines()
    return "\n".join(line for line in lines if line[:1] == " " and "pid" not in line)[:_LONGEST]


def _temperatures() -> dict[str, list[float]]:
    """Of each kind of sensor; macOS has none that can be read without root."""
    sensors: dict[str, Any] = getattr(psutil, "sensors_temperatures", dict)()
    return {kind: [entry.current for entry in group] for kind, group in sensors.items()}


def _lines(word: str, *command: str) -> str:
    """The lines with `word` of what a program printed."""
    return "\n".join(line.strip() for line in printed(*command).splitlines() if word in line)


def files(bench: Bench) -> Outcome:
    """Descriptors for many streams, and what flushing a file to the disk takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    folder = bench.scratch("flushed")
    times = []
    for number in range(bench.few(20, 3)):
        (folder / "file").write_bytes(os.urandom(1 << 16) + bytes([number]))
        began = time.perf_counter()
        sync_folder(folder)
        times.append(1000 * (time.perf_counter() - began))
    # macOS reports a hard limit without end, and gives a process 10,240 at the most by default.
    room = hard == resource.RLIM_INFINITY or hard >= 2 * STREAMS
    figures = {"soft": soft, "hard": hard, "flush_ms": sorted(times)[len(times) // 2]}
    said = f"{soft} descriptors at the start, {hard if hard < 2**60 else 'any number'} allowed; a "
    said += f"flush takes {figures['flush_ms']:.1f} ms."
    return judged(room, said, f"Allow more: ulimit -n {4 * STREAMS}.", **figures)
