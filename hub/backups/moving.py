"""The hub's rows in another database, while the hub is stopped."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connections, transaction

from hub.backups import databases, rows
from hub.processes import preparation, presence
from registry.audit import Action, audit
from registry.background import work
from registry.background.progress import Progress
from registry.errors import Conflict, Invalid
from registry.storage import paths


@dataclass(frozen=True)
class Moved:
    """`kind` is the target's name for a person."""

    kind: str
    tables: list[rows.Table]
    next_step: str


def move(to: str, watch: Progress) -> Moved:
    """Copy all rows to the database at `to`, a URL or the word sqlite.

    Raises Conflict while a hub runs here or when the target is not empty, Invalid for a URL that is
    none, and whatever `rows.copy` raises; the target then has no row.
    """
    url = _url(to)
    if name := presence.running():
        raise Conflict(f"The hub is running (process {presence.pid(name)}); stop it first.")
    if row := work.running():
        raise Conflict(f"{row} is still running in the background; wait for it.")
    if preparation.missing():
        raise Conflict("The database is not up to date; start this version of the hub once first.")
    table = ""

    def report(name: str, done: int, count: int) -> None:
        nonlocal table
        if name != table and count:
            table = name
            watch.stage(f"{name} ({count:,})")
        watch.part(done / count if count else 1.0)

    with databases.opened(url) as target:
        if _place(target) == _place(databases.HUB):
            raise Conflict("That is the database which the hub uses already; name another one.")
        rows.require_empty(target)
        databases.migrate(target)
        copied = rows.copy(databases.HUB, target, report)
        kind = connections[target].display_name
        with transaction.atomic(using=target):
            source = connections[databases.HUB].display_name
            audit(Action.DATABASE_MOVED, kind, f"From {source}", using=target)
    paths.close_to_others()
    return Moved(kind, copied, _next(url))


def _url(to: str) -> str:
    if to == "sqlite":
        return databases.url_of(paths.root() / "hub.sqlite3")
    if not to.startswith(("postgres://", "postgresql://", "sqlite:///")):
        raise Invalid(
            "--to: write postgres://user:password@host:5432/name, sqlite:///PATH or sqlite."
        )
    return to


def _place(alias: str) -> tuple[str, ...]:
    found = connections[alias].settings_dict
    return tuple(str(found[key]) for key in ("ENGINE", "NAME", "HOST", "PORT"))


def _next(url: str) -> str:
    if url == databases.url_of(paths.root() / "hub.sqlite3"):
        return "Now remove HUB_DATABASE_URL (or DATABASE_URL) from the environment and .env, and start the hub."
    return "Now set HUB_DATABASE_URL to that address in .env, and start the hub."
