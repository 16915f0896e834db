"""What a Mac leaves in folders is no part of them, wherever a backend reads one."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from backends import checkpoints
from backends.base import UnsupportedModel
from backends.checkpoints import Checkpoint
from backends.fake import examination, files
from backends.litter import is_litter, tidy
from backends.mlx.data import cache, rows
from backends.mlx.files import folder as folders
from backends.mlx.files import saving
from backends.mlx.files.identity import identity
from backends.schedule import Best

LEFT = (".DS_Store", "._config.json", "._model.safetensors", "._train.jsonl", "._code.py")


def leave(folder: Path) -> None:
    """What Finder and exFAT put there: bytes that are neither UTF-8 nor anything else."""
    for name in LEFT:
        (folder / name).write_bytes(b"\0\x05\x16\x07\0\x02\0\0Mac OS X\xff")


@pytest.mark.parametrize("name", [*LEFT, "a/.DS_Store", "__MACOSX/a.json", "._folder/a", "Icon\r"])
def test_names_that_a_system_leaves(name: str) -> None:
    assert is_litter(name)


@pytest.mark.parametrize("name", ["config.json", ".staged.json", "_x.json", "a._b", "DS_Store"])
def test_names_that_somebody_gave(name: str) -> None:
    assert not is_litter(name)


def test_only_its_own_name_makes_a_file_litter(tmp_path: Path) -> None:
    folder = tmp_path / "._deep"
    folder.mkdir()
    (folder / "a.json").touch()
    leave(folder)
    assert tidy(folder.iterdir()) == [folder / "a.json"]


def test_a_checkpoint_is_whole_whatever_comes_and_goes_beside_it(tmp_path: Path) -> None:
    def write(into: Path) -> None:
        (into / "weights").write_text("1")
        leave(into)

    path = checkpoints.path_of(tmp_path, 2)
    checkpoints.save(Checkpoint(path, 2, "run", {}, Best(0.5, 2, 2)), write, keep=9)
    for name in LEFT:
        (path / name).unlink()
    leave(tmp_path)
    assert checkpoints.latest(tmp_path, "run").path == path


def test_a_checkpoint_that_recorded_litter_is_whole_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoints.path_of(tmp_path, 2)
    monkeypatch.setattr(checkpoints, "tidy", sorted)  # as it was written before
    found = Checkpoint(path, 2, "run", {}, Best(0.5, 2, 2))
    checkpoints.save(found, lambda into: (into / ".DS_Store").write_text("x"), keep=9)
    (path / ".DS_Store").unlink()
    assert checkpoints.latest(tmp_path, "run").path == path


@pytest.mark.parametrize("backend", ["fake", "mlx"])
def test_the_files_of_a_data_set_are_measured_alone(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, target = tmp_path / "data", tmp_path / "target"
    data.mkdir()
    target.mkdir()
    (data / "train.jsonl").write_text('{"text": "a b c"}\n')
    leave(data)
    if backend == "fake":
        examination.measure(data, 100, target)
    else:
        monkeypatch.setattr(rows, "open_tokenizer", lambda base: None)
        monkeypatch.setattr(rows, "_measured", lambda *_: [0] * 9)
        monkeypatch.setattr(rows, "MEASURED", struct.Struct("9i"))
        rows.measure(tmp_path, data, 100, target)
    assert [path.name for path in target.iterdir()] == ["train.measured"]


@pytest.mark.parametrize("known", [identity, lambda folder: cache.digest(folder, {})])
def test_what_a_folder_is_known_by_stays(known: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = known(tmp_path)
    leave(tmp_path)
    assert known(tmp_path) == before


def test_a_fake_model_with_a_shadow_of_code_has_none(tmp_path: Path) -> None:
    source, target = tmp_path / "a.gguf", tmp_path / "model"
    source.write_bytes(b"GGUF")
    files.import_gguf(source, target)
    leave(target)
    assert files.inspect(target).architecture == "fake"


def test_a_shadow_of_code_is_no_code(tmp_path: Path) -> None:
    leave(tmp_path)
    folders.refuse_code(tmp_path, {})
    with pytest.raises(UnsupportedModel, match=r"has no model\*\.safetensors\.$"):
        folders._tensors(tmp_path)
    shutil.copy(tmp_path / "._code.py", tmp_path / "code.py")
    with pytest.raises(UnsupportedModel, match="contains code"):
        folders.refuse_code(tmp_path, {})


def test_a_new_model_takes_no_litter_from_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, target = tmp_path / "base", tmp_path / "target"
    base.mkdir()
    (base / "tokenizer.json").write_text("{}")
    leave(base)
    monkeypatch.setattr(saving, "save_model", lambda *_, **__: None)
    monkeypatch.setattr(saving, "describe", lambda folder: None)
    saving.write_model(base, target, None, {})
    assert sorted(path.name for path in target.iterdir()) == ["config.json", "tokenizer.json"]
