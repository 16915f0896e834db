"""The fake backend's checkpoints: folders like the real ones, with its own small weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from backends.base import BackendError
from backends.best import Best
from backends.fake import files

type Weights = dict[str, files.Tensor]


@dataclass
class Checkpoint:
    """How far a run is; `fingerprint` names the run."""

    fingerprint: str
    iteration: int
    weights: Weights
    best: Best


def latest(folder: Path, fingerprint: str) -> Checkpoint | None:
    """The newest checkpoint. Raises BackendError when it belongs to another run."""
    if not (saved := _saved(folder)):
        return None
    state = json.loads((saved[-1] / "state.json").read_text())
    if state["fingerprint"] != fingerprint:
        raise BackendError(
            f"The checkpoint {saved[-1].name} belongs to another configuration or data set; "
            "remove it to begin anew."
        )
    best = Best(**state["best"])
    return Checkpoint(fingerprint, state["iteration"], weights(folder, state["iteration"]), best)


def weights(folder: Path, iteration: int) -> Weights:
    return files.read_safetensors(_named(folder, iteration) / "adapters.safetensors")


def save(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write it and drop all but the last `keep` and the best."""
    final = _named(folder, checkpoint.iteration)
    partial = folder / f".staging-{final.name}"
    for leftover in (partial, final):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    files.write_safetensors(partial / "adapters.safetensors", checkpoint.weights)
    state = {
        "iteration": checkpoint.iteration,
        "fingerprint": checkpoint.fingerprint,
        "best": asdict(checkpoint.best),
    }
    (partial / "state.json").write_text(json.dumps(state))
    partial.rename(final)
    for old in _saved(folder)[:-keep]:
        if old != _named(folder, checkpoint.best.iteration):
            shutil.rmtree(old)
    return final


def _named(folder: Path, iteration: int) -> Path:
    return folder / f"{iteration:07}"


def _saved(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first; one that was being written has another name."""
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir())
