"""Checkpoints of a training run that survive a crash at any moment: one rule for every backend.

A checkpoint is a folder `NNNNNNN` with the backend's own files (weights, optimizer state) and
`state.json`, which holds the iteration, the metrics so far, the best validation and a sha256 of the
other files. It is written beside its place, synced and renamed, so a name that exists is complete. A
damaged one is skipped for the one before it. The best one is kept beside the newest.

This module knows nothing of what the backend's files contain.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from backends.base import BackendError, TrainingConfig, TrainingRun
from backends.durable import fsync, sync_folder
from backends.litter import is_litter, tidy
from backends.schedule import Best

_STATE = "state.json"
_READ_BY = {"gamma": "simpo", "desirable_weight": "kto", "undesirable_weight": "kto"}
_WITHOUT_EFFECT = {"scoring", "samples", "sample_tokens", "keep_checkpoints"}


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to continue, beside the backend's files in `path`."""

    path: Path
    iteration: int
    run: str  # the fingerprint of the run it belongs to
    metrics: dict[str, float]
    best: Best


def fingerprint(run: TrainingRun) -> str:
    """sha256 over what decides the run's result: config, data, and the base's weights by size."""
    digest = hashlib.sha256(_settings(run.config).encode())
    for name in ("train", "valid", "test"):
        path = run.data / f"{name}.jsonl"
        digest.update(_sha256(path).encode() if path.exists() else b"-")
    for path in sorted(run.base.glob("model*.safetensors")):
        digest.update(f"{path.name} {path.stat().st_size}".encode())
    return digest.hexdigest()


def _settings(config: TrainingConfig) -> str:
    """The settings as JSON, as they were written before there were `learn` (it was called
    mask_prompt), `special_tokens`, `thoughts`, `tools`, `arithmetic` and `eval_examples`: a run that was started then
    continues from its checkpoints."""
    unread = {name for name, objective in _READ_BY.items() if objective != config.objective}
    written = config.model_dump_json(exclude=_WITHOUT_EFFECT | unread)
    for now, then in (
        ('"learn":"last_answer"', '"mask_prompt":true'),
        ('"learn":"everything"', '"mask_prompt":false'),
        ('"special_tokens":"control",', ""),
        ('"thoughts":"as_written",', ""),
        ('"tools":"as_written",', ""),
        ('"arithmetic":"earlier",', ""),
        ('"eval_examples":0,', ""),
    ):
        written = written.replace(now, then)
    return written


def path_of(folder: Path, iteration: int) -> Path:
    return folder / f"{iteration:07}"


def save(checkpoint: Checkpoint, write: Callable[[Path], None], keep: int) -> None:
    """Make `checkpoint` durable; `write` puts the backend's files into the folder it is given.
    Then remove all but the last `keep` checkpoints and the best."""
    final = checkpoint.path
    folder = final.parent
    staging = folder / f".staging-{final.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    write(staging)
    state = {
        "iteration": checkpoint.iteration,
        "run": checkpoint.run,
        "metrics": checkpoint.metrics,
        "best": asdict(checkpoint.best),
        "sha256": {path.name: _sha256(path) for path in tidy(staging.iterdir())},
    }
    (staging / _STATE).write_text(json.dumps(state, indent=2) + "\n")
    sync_folder(staging)
    shutil.rmtree(final, ignore_errors=True)  # a damaged one of the same iteration
    staging.rename(final)
    fsync(folder)
    best = path_of(folder, checkpoint.best.iteration)
    for old in [path for path in _all(folder)[:-keep] if path != best]:
        shutil.rmtree(old, ignore_errors=True)
    for leftover in folder.glob(".staging-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def latest(folder: Path, run: str) -> Checkpoint | None:
    """The newest undamaged checkpoint in `folder` whose best one is there too, or None.

    Raises BackendError when it belongs to another run: mixing two would be silent nonsense.
    """
    paths = _all(folder)
    for path in reversed(paths):
        checkpoint = _read(path)
        if checkpoint is None or not _has_best(checkpoint, newest=path == paths[-1]):
            continue
        if checkpoint.run != run:
            raise BackendError(
                f"The checkpoints in {folder.name} belong to a run with other settings, data or "
                "base model; use an empty folder."
            )
        return checkpoint
    return None


def _all(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted(folder.glob("[0-9]*"))


def _read(path: Path) -> Checkpoint | None:
    """The checkpoint at `path`, None if it is damaged."""
    try:
        state = json.loads((path / _STATE).read_text())
        sums = {n: digest for n, digest in state["sha256"].items() if not is_litter(n)}
        if any(_sha256(path / name) != digest for name, digest in sums.items()):
            return None
        return Checkpoint(
            path=path,
            iteration=int(state["iteration"]),
            run=str(state["run"]),
            metrics=dict(state["metrics"]),
            best=Best(**state["best"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _has_best(checkpoint: Checkpoint, *, newest: bool) -> bool:
    """Whether the best weights up to `checkpoint` are there, or training on will find better ones."""
    if checkpoint.best.iteration in (0, checkpoint.iteration):
        return True
    best = path_of(checkpoint.path.parent, checkpoint.best.iteration)
    if best.exists():
        return _read(best) is not None
    return not newest  # a later validation was better, and the same steps lead there again


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
