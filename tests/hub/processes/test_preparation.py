"""The database is prepared by one process, by names alone when nothing is missing, and `up` hears of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from hub.config import load
from hub.management.commands import run_web
from hub.processes import belonging, exposure, lifeline, preparation, supervisor
from hub.processes.supervisor import CannotStart, Supervisor
from hub.sqlite import tables
from tests.running import wait_until

pytestmark = pytest.mark.any_database


@pytest.fixture
def migrated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was called in place of being run."""
    called: list[str] = []
    monkeypatch.setattr(tables, "call_command", lambda name, **_: called.append(name))
    monkeypatch.setattr(tables, "make_tables", lambda *_: called.append("make tables"))
    return called


@pytest.mark.django_db
def test_a_database_that_lacks_nothing_is_not_migrated(migrated: list[str], storage: Path) -> None:
    assert preparation.missing() == set()
    assert preparation.prepare(load()) is None
    assert migrated == []


@pytest.mark.django_db
def test_a_missing_migration_is_applied(migrated: list[str], storage: Path) -> None:
    MigrationRecorder(connection).record_unapplied("registry", "0001_initial")
    assert preparation.missing() == {("registry", "0001_initial")}
    preparation.prepare(load())
    assert migrated == ["migrate"]


@pytest.mark.django_db
@pytest.mark.parametrize(("vendor", "done"), [("sqlite", "make tables"), ("postgresql", "migrate")])
def test_an_empty_sqlite_file_gets_its_tables_in_one_step(
    vendor: str, done: str, migrated: list[str], storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "_applied", set)
    monkeypatch.setattr(connection, "vendor", vendor)
    assert preparation.prepare(load()) is None
    assert migrated == [done]


def test_migrations_are_found_as_django_finds_them() -> None:
    found = {(app, name) for app, name in MigrationLoader(None).disk_migrations}
    labels = {app for app, _ in found}
    assert found == {(app, name) for app in labels for name in preparation._names(app)}


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (OperationalError("connection failed: refused"), b"The database does not answer: refused."),
        (OperationalError("no such table: x"), b""),
    ],
)
def test_up_is_told_that_the_database_is_down(
    raised: Exception, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(_: object) -> Any:
        raise raised

    read, write = os.pipe()
    monkeypatch.setenv("HUB_PREPARED_PIPE", str(write))
    monkeypatch.setattr(preparation, "prepare", down)
    if said:
        assert run_web._problem()
    else:  # its traceback is in the log, and the pipe closes with the process
        with pytest.raises(OperationalError):
            run_web._problem()
        os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read().startswith(said)


@pytest.mark.django_db
def test_a_foreign_database_is_refused(
    migrated: list[str], storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(belonging, "problem", lambda: "It belongs to another hub.")
    assert preparation.prepare(load()) == "It belongs to another hub."


CHILD = """
import os, pathlib, sys
if sys.argv[1] == "run_web":
    os.write(int(os.environ["HUB_PREPARED_PIPE"]), {said!r})
    sys.exit()
assert "HUB_PREPARED_PIPE" not in os.environ
pathlib.Path(sys.argv[1]).touch()
"""


def start(folder: Path, said: bytes, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """`up` with scripts in place of its processes; the first of them says `said`."""
    (folder / "manage.py").write_text(CHILD.format(said=said))
    monkeypatch.setattr(supervisor, "HOME", folder)
    monkeypatch.setattr(supervisor, "check_port", lambda *_: None)
    monkeypatch.setattr(supervisor, "STOP_S", 1.0)
    hub = Supervisor(load(drain_s=0), lambda name, line: None)
    hub.start()
    return hub


@pytest.mark.slow
def test_up_ends_with_what_is_wrong_with_the_database(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CannotStart, match="no API token yet"):
        start(tmp_path, b"There is no API token yet.", monkeypatch)
    assert not (tmp_path / "run_background").exists()


@pytest.mark.slow
def test_up_ends_when_the_process_that_prepares_dies(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CannotStart, match="its last lines above say why"):
        start(tmp_path, b"", monkeypatch)


@pytest.mark.slow
def test_the_queue_and_the_sampler_start_once_the_database_is_prepared(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = start(tmp_path, b"ready", monkeypatch)
    try:
        wait_until(
            lambda: all((tmp_path / f"run_{name}").exists() for name in ("engine", "background"))
        )
    finally:
        hub.stop()


def test_a_web_process_that_up_starts_again_serves_while_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away() -> None:
        raise OperationalError("connection failed: refused")

    monkeypatch.setattr(belonging, "problem", away)
    monkeypatch.setattr(exposure, "problem", lambda config: None)
    monkeypatch.delenv(lifeline.PREPARED, raising=False)
    with pytest.raises(OperationalError):
        run_web._problem()
    monkeypatch.setattr(lifeline, "_has_parent", True)
    assert run_web._problem() is None
