"""Checkpoints of a training run that survive a crash at any moment.

A checkpoint is a folder `NNNNNNN` with the adapter, the optimizer's state and `state.json`,
which holds the iteration, the metrics so far and a sha256 of the other files. It is written
beside its place, synced and renamed, so a name that exists is complete; a damaged one is passed
over for the one before it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import mlx.core as mx

from backends.base import BackendError
from backends.durable import fsync

KEEP = 2
_ADAPTER, _OPTIMIZER, _STATE = "adapters.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on. `run` names the run it belongs to (see `run_fingerprint`)."""

    iteration: int
    run: str
    metrics: dict[str, float]
    adapter: dict[str, mx.array]
    optimizer: dict[str, mx.array]


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Make `checkpoint` durable below `folder` and drop all but the last two."""
    final = folder / f"{checkpoint.iteration:07}"
    staging = folder / f".staging-{final.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    mx.save_safetensors(str(staging / _ADAPTER), checkpoint.adapter)
    mx.save_safetensors(str(staging / _OPTIMIZER), checkpoint.optimizer)
    state = {
        "iteration": checkpoint.iteration,
        "run": checkpoint.run,
        "metrics": checkpoint.metrics,
        "sha256": {name: sha256(staging / name) for name in (_ADAPTER, _OPTIMIZER)},
    }
    (staging / _STATE).write_text(json.dumps(state, indent=2) + "\n")
    sync_folder(staging)
    shutil.rmtree(final, ignore_errors=True)  # a damaged one of the same iteration
    staging.rename(final)
    fsync(folder)
    _prune(folder)
    return final


def latest(folder: Path, run: str) -> Checkpoint | None:
    """The newest undamaged checkpoint below `folder`, or None.

    Raises BackendError when it belongs to another run: mixing two would be silent nonsense.
    """
    for path in sorted(folder.glob("[0-9]*"), reverse=True):
        checkpoint = _read(path)
        if checkpoint is None:
            continue
        if checkpoint.run != run:
            raise BackendError(
                f"The checkpoints in {folder.name} belong to a run with other settings, data or "
                "base model; use an empty folder."
            )
        return checkpoint
    return None


def sync_folder(folder: Path) -> None:
    """Flush every file of `folder`, then the folder itself, to the disk."""
    for path in folder.iterdir():
        fsync(path)
    fsync(folder)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> Checkpoint | None:
    try:
        state = json.loads((path / _STATE).read_text())
        intact = all(sha256(path / name) == digest for name, digest in state["sha256"].items())
        if not intact:
            return None
        return Checkpoint(
            iteration=int(state["iteration"]),
            run=str(state["run"]),
            metrics=dict(state["metrics"]),
            adapter=_load(path / _ADAPTER),
            optimizer=_load(path / _OPTIMIZER),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _load(path: Path) -> dict[str, mx.array]:
    return cast(dict[str, mx.array], mx.load(str(path)))


def _prune(folder: Path) -> None:
    for path in sorted(folder.glob("[0-9]*"))[:-KEEP]:
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".staging-*"):
        shutil.rmtree(path, ignore_errors=True)
