"""Training runs in processes of their own, some of which are killed: `python -m hub.selftest.tried.killed
FOLDER` trains the run that is described in the folder, and prints each step."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from backends.base import Stepped, TrainingConfig, TrainingRun
from hub.config import ROOT


class Failed(RuntimeError):
    """A run that nobody killed did not end well."""


def describe(run: TrainingRun) -> Path:
    """The folder that the run's process is started with. `run.output` lies in it."""
    folder = run.output.parent
    config = run.config.model_dump(mode="json")
    spec = {"base": str(run.base), "data": str(run.data), "config": config}
    (folder / "run.json").write_text(json.dumps(spec))
    return folder


def finished(folder: Path) -> str:
    """Run to the end; the adapter's sha256. Raises Failed."""
    with _start(folder) as process:
        process.communicate()
    if process.returncode:
        raise Failed(f"The training process ended with code {process.returncode}.")
    return digest(folder / "output")


def digest(output: Path) -> str:
    """The sha256 of an adapter's weights."""
    return hashlib.sha256((output / "adapters.safetensors").read_bytes()).hexdigest()


def killed(folder: Path, step: int, wait: float) -> int:
    """Kill the run `wait` seconds after its step `step`; returns the last step that it printed."""
    said = 0
    with _start(folder) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said = int(line)
            if said == step:
                time.sleep(wait)
                process.send_signal(signal.SIGKILL)
                break
        rest = process.stdout.read().split()
    return int(rest[-1]) if rest else said


def _start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hub.selftest.tried.killed", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def read(folder: Path) -> TrainingRun:
    spec: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return TrainingRun(
        base=Path(spec["base"]),
        data=Path(spec["data"]),
        output=folder / "output",
        checkpoints=folder / "checkpoints",
        config=TrainingConfig.model_validate(spec["config"]),
    )


def main() -> None:
    from backends.mlx import MLXBackend

    for event in MLXBackend().train(read(Path(sys.argv[1]))):
        if isinstance(event, Stepped):
            print(event.iteration, flush=True)


if __name__ == "__main__":
    main()
