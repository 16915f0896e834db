"""Databases beside the hub's own: opened by their URL, brought up to date, copied whole."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.sqlite3._functions import register  # type: ignore[import-untyped]
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.utils import load_backend

from hub.databases import settings_for
from hub.sqlite.tables import bring_up_to_date
from registry.errors import Damaged

HUB = DEFAULT_DB_ALIAS


def url_of(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}"


@contextmanager
def opened(url: str) -> Iterator[str]:
    """The alias of a connection to the database at `url` (`postgres://…`, `sqlite:///PATH`), for
    Django's `using`. It is closed at the end."""
    alias = f"beside-{uuid.uuid4().hex}"
    whole = connections.configure_settings({HUB: settings_for(url)})[HUB]  # with what is left out
    connections[alias] = load_backend(whole["ENGINE"]).DatabaseWrapper(whole, alias)
    try:
        yield alias
    finally:
        connections[alias].close()
        del connections[alias]


@contextmanager
def opened_file(path: Path) -> Iterator[str]:
    """The same for a SQLite file that is one file again afterwards, without a log beside it."""
    with opened(url_of(path)) as alias:
        yield alias
        with connections[alias].cursor() as cursor:
            cursor.execute("PRAGMA journal_mode=DELETE")


def migrate(alias: str) -> None:
    """Bring its tables to where this release wants them."""
    here = set(MigrationRecorder(connections[alias]).applied_migrations())
    known = set(MigrationLoader(None).disk_migrations)
    bring_up_to_date(alias, here, known)


def applied(alias: str) -> list[str]:
    """`app.name` of each migration that it has, in order."""
    names = MigrationRecorder(connections[alias]).applied_migrations()
    return sorted(f"{app}.{name}" for app, name in names)


def is_sqlite(alias: str = HUB) -> bool:
    return connections[alias].vendor == "sqlite"


def check_file(path: Path) -> list[str]:
    """What SQLite finds wrong with a database file, a sentence each. Nothing is written beside it."""
    try:
        address = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            register(connection)  # Django's functions, which its constraints use
            said = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")]
            broken = {str(row[0]) for row in connection.execute("PRAGMA foreign_key_check")}
    except sqlite3.Error as error:
        return [f"{path.name} is no sound SQLite database: {error}."]
    problems = [] if said == ["ok"] else [f"{path.name}: {text}." for text in said]
    return problems + [
        f"{path.name}: rows of {name} name rows that are missing." for name in broken
    ]


def require_sound(path: Path) -> None:
    """Raises Damaged."""
    if problems := check_file(path):
        raise Damaged(" ".join(problems[:3]))
