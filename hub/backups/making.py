"""Making a backup of a hub that may be running.

First a consistent copy of the database, then the files that its rows name: folders are only added, so
every row finds its files, and what comes later is in the next backup. All of it is written under
another name, and renamed once it is whole.
"""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from django.conf import settings
from django.db import OperationalError, connections
from django.utils import timezone

from backends.durable import fsync
from hub.backups import databases, folder, rows
from hub.backups.files import Store
from hub.backups.folder import DATABASE, MLFLOW, Backup
from hub.sqlite import copy_file
from registry.background.progress import SILENT, Progress
from registry.errors import HubError, Invalid
from registry.storage import paths

_PARTIAL = ".partial-"
_NOT_MADE = "no backup was made, and the earlier ones are as they were"
_SMALL = ("id", "secret_key", "settings.json", "benchmarks.jsonl", "run/pinned.json")
_TREES = ("jobs", "mlflow-artifacts")


@dataclass(frozen=True)
class Made:
    """A new backup. `linked` files lie in an earlier one, too, and take no room of their own;
    `removed` are older backups that went for it."""

    backup: Backup
    copied_bytes: int
    linked: int
    removed: list[Path]


def make(place: Path, keep: int | None = None, watch: Progress = SILENT) -> Made:
    """Make a backup in the folder `place`, then remove all but the newest `keep`.

    Raises Invalid for a place inside storage, Conflict while another backup is made there, and
    DiskFull, after which the earlier backups are as they were.
    """
    if keep is not None and keep < 1:
        raise Invalid("keep: give the number of backups to keep, 1 or more.")
    place = place.expanduser().absolute()
    if place.resolve().is_relative_to(paths.root()):
        raise Invalid(
            f"{place} is inside storage; name a folder elsewhere, at best on another disk."
        )
    try:
        place.mkdir(parents=True, exist_ok=True)
        with folder.alone(place):
            return _make(place, keep, watch)
    except (OSError, OperationalError, sqlite3.Error) as error:
        raise folder.refused(error, place, _NOT_MADE) from error


def _make(place: Path, keep: int | None, watch: Progress) -> Made:
    for left in place.glob(f"{_PARTIAL}*"):  # of a backup that was killed
        shutil.rmtree(left, ignore_errors=True)
    partial = place / f"{_PARTIAL}{uuid.uuid4().hex}"
    partial.mkdir(mode=0o700)
    try:
        store, backup = _fill(partial, _newest(place), watch)
        final = folder.name_for(place, backup.created_at)
        partial.rename(final)
        fsync(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Made(replace(backup, path=final), store.copied_bytes, store.linked, _prune(place, keep))


def _fill(partial: Path, earlier: Backup | None, watch: Progress) -> tuple[Store, Backup]:
    moment = timezone.now().replace(microsecond=0)
    store = Store(partial, earlier)
    watch.stage("Copying the database")
    _copy_database(partial / DATABASE, watch)
    store.add(DATABASE)
    if settings.MLFLOW_TRACKING_URI:
        store.missing.append("The store of the MLflow server is not part of it: back it up there.")
    elif paths.mlflow_database().exists():
        copy_file(paths.mlflow_database(), partial / MLFLOW)
        store.add(MLFLOW)
    for name in _SMALL:
        if (paths.root() / name).is_file():
            store.put(paths.root() / name, name)
    _keep_folders(store, watch)
    for name in _TREES:
        store.put_tree(paths.root() / name, name)
    migrations = databases.applied(databases.HUB)
    backup = Backup(partial, moment, migrations, store.missing, store.entries)
    folder.seal(backup)
    return store, backup


def _copy_database(target: Path, watch: Progress) -> None:
    """A SQLite file whatever the hub's database is, so that SQLite's own tools can check it and it
    can be restored to either."""
    if databases.is_sqlite():
        copy_file(Path(connections[databases.HUB].settings_dict["NAME"]), target)
        return

    def report(table: str, done: int, count: int) -> None:
        watch.part(done / count if count else 1.0)

    with databases.opened_file(target) as alias:
        databases.migrate(alias)
        rows.copy(databases.HUB, alias, report)
    target.chmod(0o600)


def _keep_folders(store: Store, watch: Progress) -> None:
    watch.stage("Keeping files")
    named = folder.folders(store.path / DATABASE)
    for number, (name, manifest_sha256, moving_to) in enumerate(named):
        watch.part(number / len(named))
        found = next((one for one in _places(name, moving_to) if one.is_dir()), None)
        store.put_sealed(found or paths.absolute(name), name, manifest_sha256)


def _places(name: str, moving_to: str) -> list[Path]:
    """Where a version's files may lie: it may have been archived or restored since the database was
    copied, or be on its way."""
    first, _, rest = name.partition("/")
    other = {"active": "archive", "archive": "active"}.get(first)
    names = [name, moving_to, f"{other}/{rest}" if other else ""]
    return [paths.absolute(one) for one in names if one]


def _newest(place: Path) -> Backup | None:
    """The newest backup whose manifest can be read: files that did not change are linked to it."""
    for path in reversed(folder.backups(place)):
        try:
            return folder.read(path)
        except HubError:
            continue
    return None


def _prune(place: Path, keep: int | None) -> list[Path]:
    old = folder.backups(place)[:-keep] if keep else []
    for path in old:
        trash = place / f"{_PARTIAL}{uuid.uuid4().hex}"  # half of a backup must not look like one
        path.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)
    return old
