"""Trainers that the hub's is compared with, each run in a process of its own: the same weights, examples,
BLAS and waiting threads (`benchmarks.rivals.tune` is the other side)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from backends.mac.memory import peak_footprint
from benchmarks.rivals.bare import THREADS
from benchmarks.rivals.environments import NotInstalled, interpreter
from benchmarks.setup.hub import ROOT

LIMIT_S = 1800.0  # of one run
_LOOK_S = 0.1  # the system keeps the peak; the last of it must not be missed
_TUNE = Path(__file__).with_name("tune.py")


@dataclass(frozen=True)
class Trainer:
    """`package` is none for one of our own packages."""

    name: str
    package: str | None = None

    def command(self, spec: Path) -> list[str]:
        """Trains as the file says. Raises NotInstalled."""
        python = interpreter(self.package) if self.package else Path(sys.executable)
        return [str(python), str(_TUNE), self.name, str(spec)]


SHIPPED, SORTED = Trainer("mlx_lm.lora"), Trainer("mlx_lm.lora, sorted")
TRAINERS = (
    SHIPPED,
    SORTED,
    Trainer("mlx-lm-lora", "mlx-lm-lora==5.10.2"),
    Trainer("unsloth-zoo", "unsloth-zoo[mlx]==2026.10.9"),
)


@dataclass(frozen=True)
class Trained:
    """Real tokens a second of the steps after the first `warm`, the most private memory that the process
    has held, in bytes, and the mean loss of those steps."""

    rate: float
    peak: int
    loss: float


def run(command: Sequence[str], warm: int, **environment: str) -> Trained:
    """Raises NotInstalled when it does not train."""
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "TERM": "dumb", "HF_HUB_OFFLINE": "1", **THREADS, **environment},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        peak = _Peak(child.pid)
        limit = threading.Timer(LIMIT_S, child.kill)
        limit.start()
        try:
            output = child.communicate()[0]
        finally:
            limit.cancel()
            child.kill()
            child.wait()
        errors.seek(0)
        said = errors.read().strip().splitlines() or ["it said nothing"]
    lines = [json.loads(line) for line in output.splitlines() if line.startswith('{"tokens"')]
    steps = lines[warm:]
    if child.returncode or not steps:
        raise NotInstalled(f"it ended with {child.returncode} at step {len(lines)}: {said[-1]}")
    tokens, seconds = (sum(step[key] for step in steps) for key in ("tokens", "seconds"))
    return Trained(tokens / seconds, peak.bytes, sum(step["loss"] for step in steps) / len(steps))


class _Peak:
    """The most private memory that a process has held, read until it ends."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        threading.Thread(target=self._watch, args=(pid,), daemon=True).start()

    def _watch(self, pid: int) -> None:
        with suppress(OSError, KeyError, psutil.NoSuchProcess):  # it has ended
            while True:
                self.bytes = max(self.bytes, _private_peak(pid))
                time.sleep(_LOOK_S)


def _private_peak(pid: int) -> int:
    """On Linux the peak of what is resident, less the files' pages of it, which others may share."""
    if sys.platform != "linux":
        return peak_footprint(pid)
    pairs = (line.split(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    held = {name: int(value.split()[0]) for name, value in pairs if name.startswith(("Vm", "Rss"))}
    return (held["VmHWM"] - held["RssFile"] - held["RssShmem"]) * 1024
