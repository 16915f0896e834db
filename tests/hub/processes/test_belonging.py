"""A database is used with the storage folder whose files it names, and with no other."""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from pathlib import Path

import pytest

from hub.models import StorageId
from hub.processes import belonging

pytestmark = pytest.mark.django_db


def test_a_new_database_takes_the_storage_it_is_started_with(storage: Path) -> None:
    assert belonging.problem() is None
    assert StorageId.objects.get().storage_id == belonging.storage_id()
    assert belonging.problem() is None
    assert StorageId.objects.count() == 1


def test_another_storage_is_refused_in_words(storage: Path, settings: object) -> None:
    assert belonging.problem() is None
    settings.STORAGE = storage.parent / "other"  # type: ignore[attr-defined]
    (storage.parent / "other").mkdir()
    said = belonging.problem()
    assert said is not None
    assert str(storage.resolve()) in said
    assert "HUB_STORAGE" in said


def test_a_storage_that_was_moved_is_known_again(storage: Path, settings: object) -> None:
    assert belonging.problem() is None
    shutil.move(storage, storage.parent / "moved")
    settings.STORAGE = storage.parent / "moved"  # type: ignore[attr-defined]
    assert belonging.problem() is None


def test_an_id_that_is_none_is_written_again(storage: Path) -> None:
    (storage / "id").write_text("not an id")
    assert belonging.storage_id() == belonging.storage_id()


THEIRS = uuid.uuid4()


@pytest.fixture
def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drive that has none, and another process that makes the file before this one does."""

    def link(source: Path, target: Path) -> None:
        target.touch()
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "link", link)


def test_the_id_of_a_process_that_was_first_is_taken(
    storage: Path, without_links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And waited for, while that one has made the file and not written it yet."""
    monkeypatch.setattr(time, "sleep", lambda s: (storage / "id").write_text(f"{THEIRS}\n"))
    assert belonging.storage_id() == THEIRS
    assert belonging.storage_id() == THEIRS
    assert [path.name for path in storage.glob("id*")] == ["id"]


def test_a_file_that_nobody_writes_gets_an_id(
    storage: Path, without_links: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(belonging, "_WRITTEN_S", 0.0)
    assert belonging.storage_id() == belonging.storage_id()


def test_storage_is_closed_to_other_users(storage: Path) -> None:
    from registry.storage import paths

    (storage / "hub.sqlite3").touch(0o644)
    storage.chmod(0o755)
    paths.close_to_others()
    assert storage.stat().st_mode & 0o077 == 0
    assert (storage / "hub.sqlite3").stat().st_mode & 0o077 == 0
