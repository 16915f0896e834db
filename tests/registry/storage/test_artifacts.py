"""Folders that are written once: sealed, moved whole, and checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from registry.errors import Damaged
from registry.storage import artifacts, checks, paths
from tests.registry.build import make_staging


def target() -> Path:
    return paths.version_dir("helper", "0.1.0")


def test_the_manifest_names_every_file_with_checksum_and_size() -> None:
    manifest = artifacts.publish(make_staging(b"abc"), target())
    content = (target() / "manifest.json").read_bytes()
    assert manifest.sha256 == hashlib.sha256(content).hexdigest()
    assert json.loads(content)["files"]["adapters.safetensors"] == {
        "sha256": hashlib.sha256(b"abc").hexdigest(),
        "size": 3,
    }
    assert manifest.size_bytes == 3 + len('{"fine_tune_type": "lora"}')
    assert artifacts.read_manifest(target()) == manifest


def test_publishing_moves_the_folder_and_leaves_nothing_in_staging() -> None:
    staging = make_staging()
    artifacts.publish(staging, target())
    assert not staging.exists()
    assert artifacts.verify(target()) == []
    assert list((paths.root() / "staging").iterdir()) == []


def test_published_files_are_read_only() -> None:
    artifacts.publish(make_staging(), target())
    assert (target() / "adapters.safetensors").stat().st_mode & 0o777 == 0o444


def test_the_same_content_keeps_the_folder_that_is_there() -> None:
    artifacts.publish(make_staging(), target())
    before = target().stat().st_ino
    artifacts.publish(make_staging(), target())
    assert target().stat().st_ino == before


def test_a_damaged_folder_is_replaced() -> None:
    artifacts.publish(make_staging(), target())
    (target() / "adapters.safetensors").unlink()
    artifacts.publish(make_staging(), target())
    assert artifacts.verify(target()) == []
    assert list((paths.root() / "staging").iterdir()) == []


def test_folders_inside_are_part_of_the_manifest() -> None:
    staging = make_staging()
    (staging / "more").mkdir()
    (staging / "more" / "notes.txt").write_text("x")
    assert "more/notes.txt" in artifacts.publish(staging, target()).files


def _lose(folder: Path) -> None:
    (folder / "adapters.safetensors").unlink()


def _flip(folder: Path) -> None:
    path = folder / "adapters.safetensors"
    path.chmod(0o644)
    path.write_bytes(b"weightz")


def _cut(folder: Path) -> None:
    path = folder / "adapters.safetensors"
    path.chmod(0o644)
    path.write_bytes(b"wei")


def _add(folder: Path) -> None:
    (folder / "evil.py").write_text("")


def _garble(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").write_text('{"files": 3}')


def _no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (_lose, "adapters.safetensors is missing."),
        (_flip, "adapters.safetensors has other content"),
        (_cut, "adapters.safetensors has 3 bytes, 7 were recorded."),
        (_add, "evil.py is not in the manifest."),
        (_garble, "manifest.json is not readable."),
        (_no_manifest, "has no manifest.json"),
    ],
)
def test_verify_names_the_damage(harm: object, named: str) -> None:
    artifacts.publish(make_staging(), target())
    harm(target())  # type: ignore[operator]
    (problem,) = artifacts.verify(target())
    assert named in problem


def test_a_link_is_not_published() -> None:
    staging = make_staging()
    (staging / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(Damaged, match="passwd is not a plain file"):
        artifacts.publish(staging, target())
    assert not target().exists()


def test_nothing_is_not_published() -> None:
    with pytest.raises(Damaged, match="empty"):
        artifacts.publish(paths.staging_dir("test"), target())
    with pytest.raises(Damaged, match="missing"):
        artifacts.publish(paths.root() / "staging" / "gone", target())


def test_sizes_are_looked_at_without_reading_the_manifest_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, read = target(), list[Path]()
    manifest = artifacts.publish(make_staging(), folder)
    reading = artifacts.read_manifest

    def counted(folder: Path) -> artifacts.Manifest:
        read.append(folder)
        return reading(folder)

    monkeypatch.setattr(artifacts, "read_manifest", counted)
    for _ in range(3):
        assert checks.check_sizes(folder, manifest.sha256) == []
    assert len(read) == 1
    file = folder / next(iter(manifest.files))
    for path in (folder, file):
        path.chmod(0o755)
    file.write_bytes(file.read_bytes() + b"more")
    assert "were recorded" in checks.check_sizes(folder, manifest.sha256)[0]
    (folder / artifacts.MANIFEST).unlink()
    assert "not published completely" in checks.check_sizes(folder, manifest.sha256)[0]
