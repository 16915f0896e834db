"""Finder's files never make a folder damaged, full or left over."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import zipfile
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from hub.backups.files import Store
from registry.background.progress import SILENT
from registry.bases import bundled, registration
from registry.bases.downloads import HubFile
from registry.conversion import exports
from registry.datasets import hub_files, uploads
from registry.datasets.snapshots import register_dataset
from registry.maintenance import gc
from registry.models import BaseModel
from registry.storage import artifacts, checks, paths
from tests.registry.build import chat, make_base, make_staging, make_version, write_jsonl

SHADOW = b"\0\x05\x16\x07\0\x02\0\0Mac OS X\xff"


def leave(folder: Path) -> None:
    folder.chmod(0o755)
    for name in (".DS_Store", "._manifest.json", "._train.jsonl", "._a.safetensors"):
        (folder / name).write_bytes(SHADOW)


def test_a_manifest_that_names_litter_is_met_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    staging, target = make_staging(), paths.version_dir("helper", "0.1.0")
    (staging / ".DS_Store").write_bytes(SHADOW)
    with monkeypatch.context() as before:  # as versions were sealed once
        before.setattr(artifacts, "is_litter", lambda name: False)
        manifest = artifacts.publish(staging, target)
    assert ".DS_Store" in manifest.files
    (target / ".DS_Store").unlink()
    assert checks.check_folder(target, manifest.sha256) == []
    assert checks.check_sizes(target, manifest.sha256) == []
    leave(target)
    assert checks.check_folder(target, manifest.sha256) == []
    assert checks.check_sizes(target, manifest.sha256) == []
    (target / ".DS_Store").unlink()
    kept = Store(paths.root() / "kept", None)
    kept.put_sealed(target, "sealed", manifest.sha256)  # as a backup does
    assert (kept.missing, ".DS_Store" in str(kept.entries)) == ([], False)


def test_a_backup_has_no_litter(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "log.txt").write_text("line")
    leave(logs)
    kept = Store(paths.root() / "kept", None)
    kept.put_tree(logs, "logs")
    assert list(kept.entries) == ["logs/log.txt"]


@pytest.mark.django_db
def test_litter_in_storage_is_no_leftover() -> None:
    version = make_version()
    paths.job_dir(1).mkdir()
    for folder in ("active", "base", "datasets", "staging", "exports", "jobs", "tokens"):
        leave(paths.root() / folder)
    leave(paths.absolute(version.artifact_path).parent)
    assert [left.path for left in gc.leftovers(timedelta(0))] == ["jobs/1"]


@pytest.mark.django_db
def test_an_export_goes_into_a_folder_that_finder_opened(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    leave(target)
    exports.write(make_version(), "adapter", target)
    assert artifacts.verify(target) == []


def test_an_exports_file_has_no_litter(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "a.json").write_text("{}")
    leave(folder)
    exports._zip(folder, tmp_path / "a.zip", "top", SILENT)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["top/a.json"]


def test_an_export_in_files_has_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "a.json").write_text("{}")
    leave(folder)
    monkeypatch.setattr(exports, "_made", lambda *_: contextlib.nullcontext(folder))
    written = exports.write(None, "adapter", tmp_path / "out")
    assert [path.name for path in written.iterdir()] == ["a.json"]


def test_the_starter_is_the_model_and_not_its_shadow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("._model.gguf", "model.gguf"):
        (tmp_path / name).touch()
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert bundled.starter_gguf() == tmp_path / "model.gguf"


@pytest.mark.django_db
def test_the_newest_snapshot_of_a_cache_is_a_folder(tmp_path: Path) -> None:
    root = tmp_path / "models--owner--small"
    snapshot = root / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    registration.base_path(make_base("original")).rename(snapshot)
    os.utime(snapshot, (1, 1))
    leave(root / "snapshots")
    copy = registration.register_base("copy", BaseModel.Source.FOLDER, str(root))
    assert artifacts.verify(registration.base_path(copy)) == []


@pytest.mark.django_db
def test_data_is_read_from_a_folder_that_finder_opened(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for split in ("train", "valid"):
        write_jsonl(source / f"{split}.jsonl", [chat(n + 9 * len(split)) for n in range(3)])
    before = uploads.size_of(source)
    leave(source)
    assert uploads.size_of(source) == before
    assert register_dataset("notes", source).notes == []


@pytest.mark.django_db
def test_litter_that_is_sent_with_the_files_is_left_out() -> None:
    line = b'{"text": "a"}\n'
    sent = [
        SimpleUploadedFile("._train.jsonl", SHADOW),
        SimpleUploadedFile(".DS_Store", SHADOW),
        SimpleUploadedFile("train.jsonl", line * 9),
    ]
    saved = uploads.save(sent)
    assert list(saved.names.values()) == ["train.jsonl"]


def test_litter_in_a_repository_is_not_downloaded() -> None:
    files = [HubFile(name, 9, "") for name in ("data/._train.jsonl", "data/train.jsonl")]
    assert [file.name for file in hub_files._data_files("a/b", files)] == ["data/train.jsonl"]
