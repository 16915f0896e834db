"""Which checkpoint a run continues from, and which are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends import checkpoints
from backends.base import BackendError, TrainingConfig, TrainingRun
from backends.checkpoints import Checkpoint
from backends.schedule import Best

pytestmark = pytest.mark.any_database


def save(folder: Path, iteration: int, *, best: int = 0, keep: int = 9, run: str = "run") -> Path:
    path = checkpoints.path_of(folder, iteration)
    found = Checkpoint(path, iteration, run, {"loss": 1.0}, Best(0.5, best, iteration))
    checkpoints.save(found, lambda into: (into / "weights").write_text(f"{iteration}"), keep)
    return path


def latest(folder: Path) -> int | None:
    found = checkpoints.latest(folder, "run")
    return found.iteration if found else None


def damage(path: Path) -> None:
    (path / "weights").write_text("other")


def test_the_newest_is_taken_with_all_that_was_saved(tmp_path: Path) -> None:
    save(tmp_path, 2)
    path = save(tmp_path, 4, best=4)
    expected = Checkpoint(path, 4, "run", {"loss": 1.0}, Best(0.5, 4, 4))
    assert checkpoints.latest(tmp_path, "run") == expected


def test_there_is_none_in_a_new_folder(tmp_path: Path) -> None:
    assert latest(tmp_path / "new") is None


@pytest.mark.parametrize("file", ["weights", "state.json"])
def test_one_that_lacks_a_file_is_skipped(tmp_path: Path, file: str) -> None:
    save(tmp_path, 2)
    (save(tmp_path, 4) / file).unlink()
    assert latest(tmp_path) == 2


def test_one_whose_best_is_damaged_is_skipped(tmp_path: Path) -> None:
    """A run could not end with those weights."""
    save(tmp_path, 1)
    damage(save(tmp_path, 2, best=2))
    save(tmp_path, 3, best=2)
    assert latest(tmp_path) == 1


def test_an_older_one_may_lack_its_best(tmp_path: Path) -> None:
    """It was removed for a better one, which the same steps find again."""
    save(tmp_path, 3, best=1)
    damage(save(tmp_path, 4, best=4))
    assert latest(tmp_path) == 3


def test_the_newest_may_not_lack_its_best(tmp_path: Path) -> None:
    save(tmp_path, 2)
    save(tmp_path, 3, best=1)
    assert latest(tmp_path) == 2


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    for iteration in range(1, 6):
        path = save(tmp_path / "run", iteration, best=1, keep=2)
    assert sorted(kept.name for kept in path.parent.iterdir()) == ["0000001", "0000004", "0000005"]


def test_another_run_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 2, run="other")
    with pytest.raises(BackendError, match="other settings"):
        latest(tmp_path)


@pytest.mark.parametrize(
    ("old", "started"),
    [
        (
            {"mask_prompt": True},
            "9f90f17057266ba2a255ebff5442aa853bcba42d182f74b9f70ec9f018532111",
        ),
        (
            {"mask_prompt": False},
            "0c6a1ef955ca72b842c9dc9c0e67881ef8ec7a1ff7e2247c7f726b00d9868dc7",
        ),
    ],
)
def test_a_run_started_when_learn_was_called_mask_prompt_continues(
    tmp_path: Path, old: dict[str, bool], started: str
) -> None:
    """The fingerprints were computed then."""
    for name, text in (("train.jsonl", "train"), ("valid.jsonl", "valid")):
        (tmp_path / name).write_text(text)
    (tmp_path / "model.safetensors").write_text("weights")

    def fingerprint(**changes: Any) -> str:
        config = TrainingConfig(learning_rate=1e-5, **changes)
        return checkpoints.fingerprint(TrainingRun(tmp_path, tmp_path, tmp_path, tmp_path, config))

    then: dict[str, Any] = {
        "special_tokens": "control",
        "thoughts": "as_written",
        "arithmetic": "earlier",
    }
    then |= {"tools": "as_written", "eval_examples": 0}
    assert fingerprint(**old, **then) == started
    assert fingerprint(**old, **then | {"tools": "in_words"}) != started
    assert fingerprint(**old, **then | {"arithmetic": "masters"}) != started
    assert fingerprint(**old, **then | {"eval_examples": 9}) != started
    assert fingerprint(**old) != started
    assert fingerprint(gamma=1) == fingerprint(desirable_weight=3) == fingerprint()
    kto = fingerprint(objective="kto")
    assert fingerprint(objective="kto", gamma=1) == kto != fingerprint(objective="kto", beta=1)
    assert fingerprint(objective="kto", desirable_weight=3) != kto
    assert fingerprint(**then) != started
