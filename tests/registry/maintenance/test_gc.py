"""What no row names is listed and swept; what a row names is never touched."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from registry.background import work
from registry.conversion import exports
from registry.maintenance import gc
from registry.maintenance.archive import archive_version
from registry.maintenance.verification import verify_all
from registry.models import BaseImport, Dataset, ModelVersion
from registry.models.bases import RESUMABLE
from registry.storage import paths
from registry.versions.lifecycle import fail_version
from tests.registry.build import begin, make_model, make_staging, make_version

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

NOW = timedelta(0)


def listed() -> set[str]:
    return {leftover.path for leftover in gc.leftovers(NOW)}


def orphan(*parts: str) -> Path:
    path = paths.root().joinpath(*parts)
    path.mkdir(parents=True)
    (path / "file").write_bytes(b"12345")
    return path


@pytest.mark.both_databases
def test_nothing_that_a_row_names_is_listed() -> None:
    version = make_version()
    archive_version(make_version(version.model))
    assert listed() == set()


ORPHANS = [
    ("staging", "base-0123"),
    ("active", "helper", "9.9.9"),
    ("active", "gone", "0.1.0"),
    ("archive", "helper", "0.1.0"),
    ("base", "gone"),
    ("datasets", "0" * 64),
    ("findings", "77"),
    ("tokens", "0" * 64),
    ("jobs", "77"),
    ("exports", "calendar"),
    ("uploads", "0123"),
]


@pytest.mark.parametrize("parts", ORPHANS, ids="/".join)
def test_an_orphan_is_listed_with_its_size_and_swept(parts: tuple[str, ...]) -> None:
    version = make_version()
    path = orphan(*parts)
    (found,) = gc.leftovers(NOW)
    assert (found.path, found.size_bytes) == ("/".join(parts), 5)
    assert gc.sweep(NOW) == [found]
    assert not path.exists()
    assert [one.problems for one in verify_all(everything=True)] == [[], [], []]
    assert version.artifact_path


def test_what_was_touched_lately_is_spared() -> None:
    path = orphan("staging", "base-0123")
    assert gc.sweep() == []
    assert path.exists()


def test_a_download_that_broke_off_is_spared_for_a_week() -> None:
    path = orphan("staging", f"download-{'0' * 32}")
    assert gc.sweep(NOW) == []
    (kept,) = gc.resumable()
    assert kept.path == f"staging/{path.name}"
    assert kept.kept_until
    assert abs(kept.kept_until - timezone.now() - RESUMABLE) < timedelta(minutes=1)
    out = io.StringIO()
    call_command("gc", "--dry-run", "--older-than", "0", stdout=out)
    assert path.name in out.getvalue()
    with mock.patch(
        "registry.maintenance.gc.timezone.now", return_value=timezone.now() + RESUMABLE
    ):
        assert gc.resumable() == []
        assert [gone.path for gone in gc.sweep()] == [kept.path]
    assert not path.exists()


@pytest.mark.both_databases
def test_tokens_stay_while_runs_use_them_and_their_data_set_is_there(client: Client) -> None:
    checksum = make_version().dataset.checksum
    entry = orphan("tokens", checksum, f"train-{'0' * 32}")
    partial = orphan("tokens", checksum, f".train-{'0' * 32}-1")
    assert gc.tokens_bytes() == gc.tokens_bytes(checksum) == 10
    assert client.get("/api/storage").json()["tokens_bytes"] == 10
    page = client.get(Dataset.objects.get().get_absolute_url()).content.decode()
    assert "<dt>Kept as tokens</dt><dd>10 B</dd>" in page
    assert listed() == {f"tokens/{checksum}/{partial.name}"}
    assert gc.leftovers() == []
    later = timezone.now() + gc.UNUSED
    with mock.patch("registry.maintenance.gc.timezone.now", return_value=later):
        assert len(gc.sweep()) == 2
    assert not entry.exists()
    assert gc.tokens_bytes() == 0


@pytest.mark.both_databases
def test_a_failed_import_is_remembered_as_long_as_its_download() -> None:
    """A retry goes on with it, and only the row offers one."""
    made = timezone.now() - timedelta(days=3)
    for status in ("failed", "completed"):
        BaseImport.objects.create(name=status, source="hub", status=status, heartbeat_at=made)
    assert work.prune(timezone.now() - timedelta(days=1)) == 1
    assert BaseImport.objects.get().name == "failed"
    BaseImport.objects.update(heartbeat_at=timezone.now() - RESUMABLE)
    assert work.prune(timezone.now() - timedelta(days=1)) == 1


def test_a_finished_export_stays_and_what_lies_beside_it_goes() -> None:
    version = make_version()
    file = exports.file_path(version, "adapter")
    beside = orphan("exports", file.parent.name, "half")
    assert listed() == {f"exports/{file.parent.name}"}
    file.write_bytes(b"whole")
    assert listed() == {f"exports/{file.parent.name}/half"}
    gc.sweep(NOW)
    assert file.read_bytes() == b"whole"
    assert not beside.exists()


def test_a_dry_run_touches_nothing() -> None:
    path = orphan("active", "gone", "0.1.0")
    out = io.StringIO()
    call_command("gc", "--dry-run", "--older-than", "0", stdout=out)
    assert "active/gone/0.1.0" in out.getvalue()
    assert "1 would be removed, 5 B." in out.getvalue()
    assert path.exists()
    call_command("gc", "--older-than", "0", stdout=out)
    assert "1 removed" in out.getvalue()
    assert not path.exists()


@pytest.mark.both_databases
def test_a_version_that_is_being_completed_keeps_its_files() -> None:
    version = begin()
    target = paths.version_dir("helper", "0.1.0")
    target.parent.mkdir(parents=True)
    make_staging().rename(target)
    assert gc.sweep(NOW) == []
    fail_version(version)
    assert listed() == {"active/helper/0.1.0"}


def test_a_move_is_finished_before_the_sweep_and_loses_nothing() -> None:
    version = make_version()
    target = paths.version_dir("helper", "0.1.0", archived=True)
    ModelVersion.objects.update(moving_to=paths.relative(target))
    target.parent.mkdir(parents=True)
    paths.absolute(version.artifact_path).rename(target)
    assert listed() == set()
    assert gc.sweep(NOW) == []
    version.refresh_from_db()
    assert version.status == "archived"


def test_a_link_goes_and_what_it_points_at_stays(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    make_version()
    for name in ("active/link", "base/link", "active/helper/link"):
        (paths.root() / name).symlink_to(outside)
    assert listed() == {"active/link", "base/link", "active/helper/link"}
    gc.sweep(NOW)
    assert listed() == set()
    assert (outside / "precious").read_text() == "x"


@pytest.mark.both_databases
def test_disk_use_is_told_per_model() -> None:
    small, large = make_model("small"), make_model("large")
    archive_version(make_version(large))
    make_version(large)
    make_version(small)
    first, second = gc.disk_use()
    assert (first.name, first.versions) == ("large", 2)
    assert first.active_bytes == first.archived_bytes > 0
    assert first.total_bytes == 2 * second.total_bytes
    assert gc.disk_use(small) == [second]
