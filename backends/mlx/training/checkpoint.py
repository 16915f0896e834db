"""Checkpoints of a training run that survive a crash at any moment.

A checkpoint is a folder `NNNNNNN` with the adapter, the optimizer's state and `state.json`,
which holds the iteration, the metrics so far, the best validation and a sha256 of the other
files. It is written beside its place, synced and renamed, so a name that exists is complete; a
damaged one is passed over for the one before it. The best one is kept beside the newest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx

from backends.base import BackendError
from backends.best import Best
from backends.durable import fsync

_ADAPTER, _OPTIMIZER, _STATE = "adapters.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on. `run` names the run it belongs to (see `run_fingerprint`)."""

    iteration: int
    run: str
    metrics: dict[str, float]
    best: Best
    adapter: dict[str, mx.array]
    optimizer: dict[str, mx.array]


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Make `checkpoint` durable below `folder` and drop all but the last `keep` and the best."""
    final = named(folder, checkpoint.iteration)
    staging = folder / f".staging-{final.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    mx.save_safetensors(str(staging / _ADAPTER), checkpoint.adapter)
    mx.save_safetensors(str(staging / _OPTIMIZER), checkpoint.optimizer)
    state = {
        "iteration": checkpoint.iteration,
        "run": checkpoint.run,
        "metrics": checkpoint.metrics,
        "best": asdict(checkpoint.best),
        "sha256": {name: sha256(staging / name) for name in (_ADAPTER, _OPTIMIZER)},
    }
    (staging / _STATE).write_text(json.dumps(state, indent=2) + "\n")
    sync_folder(staging)
    shutil.rmtree(final, ignore_errors=True)  # a damaged one of the same iteration
    staging.rename(final)
    fsync(folder)
    _prune(folder, keep, checkpoint.best.iteration)
    return final


def latest(folder: Path, run: str) -> Checkpoint | None:
    """The newest undamaged checkpoint below `folder` whose best one is there too, or None.

    Raises BackendError when it belongs to another run: mixing two would be silent nonsense.
    """
    newest = True
    for path in sorted(folder.glob("[0-9]*"), reverse=True):
        checkpoint = _read(path)
        if checkpoint is None or not _has_best(folder, checkpoint, newest):
            newest = False
            continue
        if checkpoint.run != run:
            raise BackendError(
                f"The checkpoints in {folder.name} belong to a run with other settings, data or "
                "base model; use an empty folder."
            )
        return checkpoint
    return None


def named(folder: Path, iteration: int) -> Path:
    return folder / f"{iteration:07}"


def adapter_of(path: Path) -> dict[str, mx.array]:
    """The trained arrays of the checkpoint at `path`."""
    return _load(path / _ADAPTER)


def sync_folder(folder: Path) -> None:
    """Flush every file of `folder`, then the folder itself, to the disk."""
    for path in folder.iterdir():
        fsync(path)
    fsync(folder)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _intact(path: Path) -> dict[str, Any] | None:
    """The state of the checkpoint at `path`, None if it is damaged."""
    try:
        state: dict[str, Any] = json.loads((path / _STATE).read_text())
        if all(sha256(path / name) == digest for name, digest in state["sha256"].items()):
            return state
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def _has_best(folder: Path, checkpoint: Checkpoint, newest: bool) -> bool:
    """Are the best weights before `checkpoint` there, or will going on find better ones?"""
    if checkpoint.best.iteration in (0, checkpoint.iteration):
        return True
    best = named(folder, checkpoint.best.iteration)
    if best.exists():
        return _intact(best) is not None
    return not newest  # a later validation was better, and the same steps lead there again


def _read(path: Path) -> Checkpoint | None:
    if (state := _intact(path)) is None:
        return None
    try:
        return Checkpoint(
            iteration=int(state["iteration"]),
            run=str(state["run"]),
            metrics=dict(state["metrics"]),
            best=Best(**state["best"]),
            adapter=adapter_of(path),
            optimizer=_load(path / _OPTIMIZER),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _load(path: Path) -> dict[str, mx.array]:
    return cast(dict[str, mx.array], mx.load(str(path)))


def _prune(folder: Path, keep: int, best: int) -> None:
    for path in sorted(folder.glob("[0-9]*"))[:-keep]:
        if path != named(folder, best):
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(".staging-*"):
        shutil.rmtree(path, ignore_errors=True)
