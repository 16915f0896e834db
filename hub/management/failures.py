"""Sentences for what keeps a command from starting: a database that is away or has no tables yet, or a
storage folder that is away."""

from __future__ import annotations

import os
from pathlib import Path

from django.db.utils import Error, InterfaceError, OperationalError, ProgrammingError

from hub.config import COMMAND, config

_DATABASE = (
    "Start it, or correct HUB_DATABASE_URL in the environment or .env (empty: SQLite in storage)."
)
_NO_TABLES = (
    f"The database lacks tables or columns of this release: run `{COMMAND} migrate` first; "
    f"`{COMMAND} up` does that, too."
)
_MAKE_TABLES = ("migrate", "makemigrations", "sqlmigrate", "squashmigrations", "optimizemigration")


def in_words(error: BaseException, command: str = "") -> str | None:
    """What is wrong and what to do; None for what only a programmer can mend. `command` is what was
    running: one that makes the tables has its own errors, whole."""
    if _names_a_table(error) and command not in _MAKE_TABLES and _lacks_migrations():
        return _NO_TABLES
    if isinstance(error, OperationalError | InterfaceError):
        return _database(str(error))
    if isinstance(error, OSError) and error.filename is not None:
        return _storage(error)
    return None


def _names_a_table(error: BaseException) -> bool:
    """Whether the database knows no table or column that was asked for."""
    said = str(error)
    if isinstance(error, ProgrammingError):  # PostgreSQL's
        return "does not exist" in said
    return isinstance(error, OperationalError) and said.startswith(("no such table", "no such col"))


def _lacks_migrations() -> bool:
    from hub.processes import preparation  # once the apps are loaded

    try:
        return bool(preparation.missing())
    except Error:
        return False


def _database(said: str) -> str | None:
    first = said.partition("\n")[0].removeprefix("connection failed: ").rstrip(".")
    if said in ("unable to open database file", "attempt to write a readonly database"):
        return (
            f"The database in {config.storage} cannot be written: give this user the folder, "
            "or set HUB_STORAGE to another."
        )
    if "connection" in said or "resolve host" in said:
        return f"The database does not answer: {first}. {_DATABASE}"
    return None


def _storage(error: OSError) -> str | None:
    """Of a file elsewhere nothing is known: whoever named it explains it."""
    path, storage = str(Path(os.fsdecode(error.filename)).absolute()), str(config.storage)
    if not f"{path}/".startswith(f"{storage}/") and not storage.startswith(f"{path}/"):
        return None
    reason = error.strerror or type(error).__name__
    return (
        f"The storage folder {storage} cannot be used ({reason}: {path}): give this user the "
        "folder, or set HUB_STORAGE to another."
    )
