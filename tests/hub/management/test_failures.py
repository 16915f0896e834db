"""What a command says when it cannot start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from django.db.utils import OperationalError, ProgrammingError

from hub.config import ROOT, config
from hub.management.failures import in_words
from hub.processes import preparation
from tests.running import hub_environment

pytestmark = pytest.mark.any_database


def run(storage: Path, *arguments: str, database: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=hub_environment(storage, DATABASE_URL=database),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_database_that_is_away_is_told_in_a_sentence(tmp_path: Path) -> None:
    away = "postgres://nobody@127.0.0.1:1/hub"
    done = run(tmp_path, "list_models", database=away)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("The database does not answer: connection to server at")
    assert line.endswith("HUB_DATABASE_URL in the environment or .env (empty: SQLite in storage).")
    assert "Traceback" in run(tmp_path, "list_models", "--traceback", database=away).stderr


def test_storage_that_cannot_be_made_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(tmp_path / "file" / "storage", "migrate")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"The storage folder {tmp_path}/file/storage cannot be used (Not a dir")


def test_a_command_that_comes_before_the_tables_says_what_comes_first(tmp_path: Path) -> None:
    for arguments in (("list_models",), ("run_background",)):
        done = run(tmp_path, *arguments)
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert line.startswith("The database lacks tables or columns of this release: run `uv run")


def test_a_missing_table_of_a_prepared_database_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = ProgrammingError('relation "registry_model" does not exist')
    monkeypatch.setattr(preparation, "missing", set)
    assert in_words(lost) is None
    monkeypatch.setattr(preparation, "missing", lambda: {("registry", "0001_initial")})
    assert "manage.py migrate" in str(in_words(lost))
    assert in_words(lost, "migrate") is None
    assert in_words(ProgrammingError("syntax error")) is None


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("no such table: registry_model"),
        OSError(13, "Permission denied", "/elsewhere/file"),
        OSError("no file"),
        ValueError("no"),
    ],
)
def test_what_is_a_bug_stays_one(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "missing", set)
    assert in_words(error) is None


def test_a_database_file_that_cannot_be_written_names_the_folder() -> None:
    said = in_words(OperationalError("attempt to write a readonly database"))
    assert said is not None
    assert str(config.storage) in said
    file = OSError(30, "Read-only file system", str(config.storage / "run" / "up.json"))
    assert "Read-only file system" in str(in_words(file))
