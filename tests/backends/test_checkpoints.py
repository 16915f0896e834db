"""Which checkpoint a run continues from, and which are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends import checkpoints
from backends.base import BackendError
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
