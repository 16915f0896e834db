"""Versions go to the archive and come back, with checksums read both ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.errors import Conflict, Damaged
from registry.maintenance import archive
from registry.maintenance.archive import archive_version, finish_moves, restore_version
from registry.maintenance.verification import verify_version
from registry.models import ModelVersion
from registry.promotion.aliases import move_alias
from registry.promotion.resolve import resolve, served_names
from registry.storage import paths
from tests.registry.build import begin, make_model, make_version

pytestmark = pytest.mark.django_db


def folder(version: ModelVersion) -> Path:
    return paths.absolute(version.artifact_path)


def spoil(version: ModelVersion) -> None:
    """Other bytes, the same size."""
    path = folder(version) / "adapters.safetensors"
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size)


def begin_move(version: ModelVersion, *, renamed: bool) -> str:
    """What a process leaves that dies amid archiving, before or after the rename."""
    target = paths.version_dir(version.model.name, version.version, archived=True)
    ModelVersion.objects.filter(pk=version.pk).update(moving_to=paths.relative(target))
    if renamed:
        target.parent.mkdir(parents=True)
        folder(version).rename(target)
    return paths.relative(target)


def test_an_archived_version_lies_in_the_archive_and_nowhere_else() -> None:
    version = make_version()
    active = folder(version)
    archive_version(version)
    assert (version.status, version.moving_to) == ("archived", "")
    assert version.artifact_path == "archive/helper/0.1.0"
    assert verify_version(version).problems == []
    assert not active.exists()


def test_a_restored_version_is_what_it_was() -> None:
    version = make_version()
    before = (version.artifact_path, version.manifest_sha256)
    restore_version(archive_version(version))
    assert version.status == "ready"
    assert (version.artifact_path, version.manifest_sha256) == before
    assert verify_version(version).problems == []
    assert not paths.version_dir("helper", "0.1.0", archived=True).exists()


def test_an_archived_version_is_not_served_until_it_is_back() -> None:
    version = make_version()
    archive_version(version)
    with pytest.raises(Conflict, match=r"helper@0\.1\.0 is archived and cannot be served"):
        resolve("helper@0.1.0")
    assert [served.label for served in served_names()] == ["base:helper-base"]
    restore_version(version)
    assert resolve("helper@0.1.0").adapter_path == folder(version)


def test_what_an_alias_points_at_is_not_archived() -> None:
    version = make_version()
    move_alias(version.model, "production", version)
    with pytest.raises(Conflict, match="has the alias production"):
        archive_version(version)
    assert resolve("helper").version == version


def test_a_version_on_its_way_is_neither_aliased_nor_served() -> None:
    version = make_version()
    begin_move(version, renamed=False)
    with pytest.raises(Conflict, match="being moved"):
        move_alias(version.model, "production", version)
    with pytest.raises(Conflict, match="being moved"):
        resolve("helper@0.1.0")
    with pytest.raises(Conflict, match="no version that is ready"):
        resolve("helper")


def test_only_the_right_status_is_left() -> None:
    version = make_version()
    with pytest.raises(Conflict, match="only an archived version"):
        restore_version(version)
    archive_version(version)
    with pytest.raises(Conflict, match="is archived; only a ready version can be archived"):
        archive_version(version)
    with pytest.raises(Conflict, match="is training"):
        archive_version(begin(version.model, iters=3))


@pytest.mark.parametrize("move", [archive_version, restore_version])
def test_a_damaged_version_stays_where_it_is(move: object) -> None:
    version = make_version()
    if move is restore_version:
        archive_version(version)
    before = (version.status, version.artifact_path)
    spoil(version)
    with pytest.raises(Damaged, match=r"adapters\.safetensors has other content"):
        move(version)  # type: ignore[operator]
    version.refresh_from_db()
    assert (version.status, version.artifact_path, version.moving_to) == (*before, "")
    assert folder(version).is_dir()


@pytest.mark.parametrize("renamed", [False, True])
def test_an_interrupted_move_is_finished(renamed: bool) -> None:
    version = make_version()
    target = begin_move(version, renamed=renamed)
    assert finish_moves() == [version]
    version.refresh_from_db()
    assert (version.status, version.artifact_path, version.moving_to) == ("archived", target, "")
    assert verify_version(version).problems == []
    assert finish_moves() == []


def test_files_damaged_on_the_way_go_back_and_the_move_is_given_up() -> None:
    version = make_version()
    target = paths.absolute(begin_move(version, renamed=True))
    (target / "adapter_config.json").unlink()
    with pytest.raises(Damaged, match=r"adapter_config\.json is missing"):
        archive.finish_move(version)
    version.refresh_from_db()
    assert (version.status, version.moving_to) == ("ready", "")
    assert folder(version).is_dir()
    assert not target.exists()


def test_files_lost_on_the_way_end_the_move() -> None:
    version = make_version()
    begin_move(version, renamed=False)
    folder(version).rename(paths.staging_dir("lost") / "all")
    assert finish_moves() == []
    version.refresh_from_db()
    assert (version.status, version.moving_to) == ("ready", "")
    assert "missing" in verify_version(version).problems[0]


def test_a_stranger_at_the_goal_gives_way() -> None:
    version = make_version()
    stranger = paths.version_dir("helper", "0.1.0", archived=True)
    stranger.mkdir(parents=True)
    (stranger / "notes.txt").write_text("nobody's")
    archive_version(version)
    assert verify_version(version).problems == []


def test_missing_or_shortened_files_are_not_served() -> None:
    version = make_version(make_model())
    path = folder(version) / "adapters.safetensors"
    path.chmod(0o644)
    path.write_bytes(b"we")
    with pytest.raises(Damaged, match=r"damaged and cannot be loaded: .* has 2 bytes"):
        resolve("helper")
    path.unlink()
    with pytest.raises(Damaged, match="is missing"):
        resolve("helper@0.1.0")
