"""A hub backed up while it runs, verified, restored; what is not as it was written is refused."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from hub.backups import databases, files, folder, making, restoring, rows
from hub.processes import presence
from registry.errors import Conflict, Damaged, DiskFull, Invalid, NotFound
from registry.maintenance import archive
from registry.models import AuditEntry, BaseImport, BaseModel, Model, ModelVersion
from registry.promotion.aliases import move_alias
from registry.storage import artifacts, paths
from tests.registry.build import make_model, make_version
from tests.running import own_database, put_hub_store, put_mlflow_store

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def version(storage: Path) -> ModelVersion:
    """A promoted version with its base, its data set and a job's checkpoint; MLflow's store."""
    made = make_version()
    move_alias(made.model, "production", made, reason="Größer 🎉")
    checkpoint = paths.job_dir(1) / "checkpoints" / "0000010"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text("{}")
    half = checkpoint.with_name(".staging-0000020")
    half.mkdir()
    (half / "state.json").write_text("half")
    put_mlflow_store(paths.mlflow_database())
    (storage / "run/pinned.json").write_text("[]")
    (storage / "id").write_text("7a1f0f0e-0000-4000-8000-000000000000\n")
    return made


def run(*arguments: str, **options: Any) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, stderr=out, **options)
    return out.getvalue()


@pytest.mark.slow
def test_a_backup_holds_everything_and_comes_back(version: ModelVersion, tmp_path: Path) -> None:
    place, there = tmp_path / "backups", tmp_path / "restored"
    run("backup", str(place))
    (there / "run").mkdir(parents=True)
    (there / "run/up.alive").touch()  # a hub that never had a row has run there
    (there / "base").mkdir()
    (made,) = folder.backups(place)
    assert "is sound" in run("verify_backup", str(made))
    assert "1 models, 1 versions" in run("restore_backup", str(made), check=True)
    assert not list((paths.root() / "staging").glob("drill-*"))
    assert "Start it with" in run("restore_backup", str(made), to=there)

    kept = sorted(path.name for path in there.iterdir())
    assert {"active", "base", "datasets", "hub.sqlite3", "id", "jobs", "mlflow.sqlite3"} <= set(
        kept
    )
    assert not artifacts.verify(there / version.artifact_path)
    assert (there / "run/pinned.json").read_text() == "[]"
    assert [p.name for p in (there / "jobs/1/checkpoints").iterdir()] == ["0000010"]
    with databases.opened_file(there / "hub.sqlite3") as alias:
        (moved,) = Model.objects.using(alias).get().alias_moves.all()
        assert (moved.reason, moved.to_version.version) == ("Größer 🎉", "0.1.0")
        newest = AuditEntry.objects.using(alias).first()
        assert newest
        assert newest.subject == made.name
    with pytest.raises(Conflict, match="is not empty"):
        restoring.restore(made, there)
    with pytest.raises(Conflict, match="is not empty"):
        restoring.restore(made, paths.root())


@pytest.mark.any_database
def test_tables_made_in_one_step_are_those_of_all_migrations(tmp_path: Path) -> None:
    """But for the order of columns, which nothing asks for. A new hub on SQLite and a backup of one on
    PostgreSQL have them."""
    put_hub_store(tmp_path / "migrated.sqlite3")
    with databases.opened_file(tmp_path / "made.sqlite3") as alias:
        databases.migrate(alias)
    migrated, made = (described(tmp_path / f"{how}.sqlite3") for how in ("migrated", "made"))
    assert len(made) > 50
    assert made == migrated


def described(path: Path) -> dict[str, list[str]]:
    """The words of each table, index and constraint, the migrations that are on record, and the
    permissions by their content type."""
    with closing(sqlite3.connect(path)) as database:
        found = database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        words = {str(name): sorted(re.split(r", |[()]", sql)) for name, sql in found}
        recorded = database.execute("SELECT app || '.' || name FROM django_migrations")
        permissions = database.execute(
            "SELECT app_label || '.' || model || '.' || codename || '.' || name FROM auth_permission "
            "JOIN django_content_type ON django_content_type.id = content_type_id"
        )
        return words | {
            "migrations": sorted(name for (name,) in recorded),
            "permissions": sorted(name for (name,) in permissions),
        }


def test_what_did_not_change_is_not_copied_again(version: ModelVersion, tmp_path: Path) -> None:
    first = making.make(tmp_path / "b").backup
    again = making.make(tmp_path / "b")
    weights = f"{version.artifact_path}/adapters.safetensors"
    state = "jobs/1/checkpoints/0000010/state.json"
    for name in (weights, state):
        assert (first.path / name).samefile(again.backup.path / name)
    assert not (first.path / weights).samefile(paths.root() / weights)
    databases_alone = sum(
        again.backup.files[name].size for name in ("hub.sqlite3", "mlflow.sqlite3")
    )
    assert again.copied_bytes <= databases_alone
    third = making.make(tmp_path / "b", keep=2)
    assert third.removed == [first.path]
    assert folder.backups(tmp_path / "b") == [again.backup.path, third.backup.path]
    assert folder.verify(third.backup.path) == []  # with its link's first name gone


@pytest.mark.any_database
def test_versions_that_move_meanwhile_are_found(version: ModelVersion, tmp_path: Path) -> None:
    version.aliases.all().delete()
    taken = making._copy_database

    def then_archived(target: Path, watch: Any) -> None:
        taken(target, watch)
        archive.archive_version(version)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "_copy_database", then_archived)
        made = making.make(tmp_path / "b").backup
    assert made.missing == []
    assert "active/helper/0.1.0/adapters.safetensors" in made.files
    assert folder.verify(made.path) == []


@pytest.mark.any_database
def test_a_full_disk_leaves_the_earlier_backup(version: ModelVersion, tmp_path: Path) -> None:
    first = making.make(tmp_path / "b").backup
    make_version(version.model)

    def full(source: Path, target: Path) -> tuple[str, int]:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "copy", full)
        with pytest.raises(DiskFull, match="is full: no backup was made"):
            making.make(tmp_path / "b", keep=1)
        with pytest.raises(DiskFull, match="is full: nothing was restored"):
            restoring.restore(first.path, tmp_path / "there")
    assert list((tmp_path / "there").iterdir()) == []
    assert folder.verify(first.path) == []
    assert [p.name for p in (tmp_path / "b").iterdir() if p.name != ".lock"] == [first.path.name]


@pytest.mark.any_database
def test_damage_is_found_and_not_restored(version: ModelVersion, tmp_path: Path) -> None:
    weights = paths.root() / version.artifact_path / "adapters.safetensors"
    made = making.make(tmp_path / "b").backup
    kept = made.path / version.artifact_path / "adapters.safetensors"
    kept.chmod(0o644)
    kept.write_bytes(b"x" * kept.stat().st_size)
    assert folder.verify(made.path) == [
        "active/helper/0.1.0/adapters.safetensors has other content than was recorded."
    ]
    there = tmp_path / "there"
    with pytest.raises(CommandError, match="is not as it was written"):
        run("restore_backup", str(made.path), to=there)
    assert list(there.iterdir()) == []
    with pytest.raises(CommandError, match="is damaged"):
        run("verify_backup", str(made.path))
    (made.path / "backup.json").write_text("{}")
    with pytest.raises(Damaged):
        folder.read(made.path)
    with pytest.raises(NotFound, match="is no backup"):
        folder.read(tmp_path)
    weights.chmod(0o644)
    weights.write_bytes(b"rotten")
    (again,) = making.make(tmp_path / "c").backup.missing
    assert "damaged in storage" in again


@pytest.mark.any_database
def test_a_newer_hub_s_backup_is_refused(version: ModelVersion, tmp_path: Path) -> None:
    made = making.make(tmp_path / "b").backup
    made.migrations.append("registry.9999_future")
    folder.seal(made)
    with pytest.raises(Conflict, match=r"newer version of the hub \(registry.9999_future"):
        restoring.restore(made.path, tmp_path / "there")
    (tmp_path / "file").touch()
    with pytest.raises(Invalid, match="cannot be used"):
        making.make(tmp_path / "file")
    with pytest.raises(Invalid, match="inside storage"):
        making.make(paths.root() / "backups")
    with folder.alone(tmp_path / "b"), pytest.raises(Conflict, match="Another backup"):
        making.make(tmp_path / "b")


def test_rows_move_to_the_other_database_and_back(version: ModelVersion, tmp_path: Path) -> None:
    """From the test's database to SQLite by the command, and from there to a new one of its kind."""
    ModelVersion.objects.update(metrics={"b": 1e20, "a": [1.0, None, "ü"], "exact": 0.1})
    gone = make_model("gone")
    last = gone.pk
    gone.delete()
    target = tmp_path / "moved.sqlite3"
    put_hub_store(target)  # a hub's tables without a row are empty enough
    told = run("move_database", to=databases.url_of(target))
    assert "rows are in SQLite" in told
    assert "registry_modelversion" in told
    with pytest.raises(CommandError, match="is not empty"):
        run("move_database", to=databases.url_of(target))
    task = BaseImport.objects.create(name="tiny", status="running")
    with pytest.raises(CommandError, match="still running in the background"):
        run("move_database", to=databases.url_of(tmp_path / "new.sqlite3"))
    task.delete()
    presence.announce("web")
    with pytest.raises(CommandError, match="The hub is running"):
        run("move_database", to=databases.url_of(tmp_path / "new.sqlite3"))
    presence.withdraw("web")
    with closing(sqlite3.connect(target)) as store:
        assert store.execute("PRAGMA foreign_key_check").fetchall() == []
    with own_database() as environment:
        url = environment["DATABASE_URL"] or databases.url_of(tmp_path / "third.sqlite3")
        if not environment["DATABASE_URL"]:
            put_hub_store(tmp_path / "third.sqlite3")
        with databases.opened(databases.url_of(target)) as source, databases.opened(url) as other:
            copied = rows.copy(source, other)
            assert {table.name: table.rows for table in copied}["registry_aliasmove"] == 1
            assert ModelVersion.objects.using(other).get().metrics["b"] == 1e20
            made = Model(name="next", base_model_id=version.base_model_id)
            made.save(using=other)
            assert made.pk == last + 1  # ids of deleted rows are not given again


@pytest.mark.any_database
def test_a_row_that_the_target_refuses_leaves_it_empty(tmp_path: Path) -> None:
    for name in ("one", "two"):
        put_hub_store(tmp_path / f"{name}.sqlite3")
    urls = [databases.url_of(tmp_path / f"{name}.sqlite3") for name in ("one", "two")]
    with databases.opened(urls[0]) as source, databases.opened(urls[1]) as target:
        with connections[source].cursor() as cursor:
            cursor.execute("PRAGMA ignore_check_constraints = 1")
        base = BaseModel(
            name="no name/", source="gguf", path="x", manifest_sha256="0" * 64, size_bytes=1
        )
        base.save(using=source)
        with pytest.raises(Invalid, match=r"a row of registry_basemodel"):
            rows.copy(source, target)
        rows.require_empty(target)
        with connections[target].cursor() as cursor:
            cursor.execute("CREATE TABLE notes (id integer)")
        with pytest.raises(Conflict, match=r"something else \(notes\)"):
            rows.require_empty(target)
