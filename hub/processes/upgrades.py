"""Before this release changes a database that another one made: a copy of it, and whether this release
knows it at all."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import structlog
from django.db import connection
from django.utils import timezone

from hub.sqlite import copy_file
from registry.storage import paths

log = structlog.get_logger(__name__)

KEPT = 3
_NAME = "before-upgrade-"


def unknown(applied: set[tuple[str, str]], known: set[tuple[str, str]]) -> str | None:
    """Why this release must not use the database, when a newer one has changed it; else None.
    `applied` are the hub's own migrations that it has, `known` those of this release."""
    newer = sorted(applied - known)
    if not newer:
        return None
    copies = _copies()
    back = f"restore {copies[-1]}, made before its upgrade" if copies else "restore a backup"
    return (
        f"The database was changed by a newer version of the hub ({'.'.join(newer[-1])} is unknown to "
        f"this one): start that version again, or {back}."
    )


def keep_copy() -> str | None:
    """Copy the database before it is changed, and log where. Returns why it must not be changed, or
    None; where PostgreSQL has no pg_dump that fits, a warning is all."""
    path = _folder() / f"{_NAME}{timezone.now():%Y%m%dT%H%M%SZ}"
    if connection.vendor != "sqlite":
        _dump(path.with_suffix(".dump"))
        return None
    path = path.with_suffix(".sqlite3")
    waiting = path.with_name(f".{path.name}")
    try:
        copy_file(Path(connection.settings_dict["NAME"]), waiting)
        waiting.replace(path)
    except (OSError, sqlite3.Error) as error:
        return (
            f"The database was not upgraded, because no copy of it can be kept at {path} ({error}): "
            "make room there, then start the hub again."
        )
    finally:
        waiting.unlink(missing_ok=True)
    _kept(path)
    return None


def _dump(path: Path) -> None:
    program = shutil.which("pg_dump")
    if program is None:
        log.warning("database not copied before its upgrade", reason="pg_dump is not installed")
        return
    given: dict[str, Any] = connection.get_connection_params()
    variables = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
    asked = {name: str(given[key]) for key, name in variables.items() if given.get(key)}
    command = [program, "--format=custom", f"--file={path}", str(given["dbname"])]
    done = subprocess.run(
        command, env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        path.unlink(missing_ok=True)
        reason = done.stderr.strip().partition("\n")[0]
        log.warning("database not copied before its upgrade", reason=reason)
        return
    path.chmod(0o600)
    _kept(path)


def _kept(path: Path) -> None:
    log.info("database copied before its upgrade", copy=str(path))
    for old in _copies()[:-KEPT]:
        old.unlink(missing_ok=True)


def _folder() -> Path:
    """Beside a SQLite file; of PostgreSQL, in storage."""
    if connection.vendor == "sqlite":
        return Path(connection.settings_dict["NAME"]).absolute().parent
    return paths.root()


def _copies() -> list[Path]:
    """The oldest first."""
    return sorted(_folder().glob(f"{_NAME}*"))
