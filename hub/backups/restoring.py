"""A backup becomes a hub again: verified while it is copied, in an empty place, all of it or nothing."""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.db import OperationalError, connections, transaction

from backends.durable import fsync
from hub.backups import databases, files, folder, rows
from hub.backups.folder import DATABASE, MLFLOW, Backup
from hub.processes import preparation, presence
from registry.audit import Action, audit
from registry.background.progress import SILENT, Progress
from registry.errors import Conflict, Damaged
from registry.models import Dataset, Model, ModelVersion
from registry.storage import paths

_FULL = ("base", "active", "archive", "datasets", "jobs", "mlflow-artifacts")


@dataclass(frozen=True)
class Restored:
    """What came out of a backup. `missing` is what the backup itself lacks."""

    storage: Path
    models: int
    versions: int
    datasets: int
    files: int
    size_bytes: int
    missing: list[str]


def restore(
    path: Path,
    storage: Path,
    database_url: str = "",
    watch: Progress = SILENT,
    *,
    record: bool = True,
) -> Restored:
    """Restore the backup at `path` into the folder `storage`, its rows into the database at
    `database_url`, which is SQLite in that folder when it is empty. The tables become those of this
    release, and its audit log records the restore unless `record` is false.

    Raises Damaged when any byte is not as it was written, Conflict when the place is not empty, a hub
    runs there, or a newer hub made the backup, DiskFull without room; then nothing is in place. NotFound
    without a backup.
    """
    backup = folder.read(path)
    _require_known(backup)
    _require_empty(storage)
    try:
        storage.mkdir(parents=True, exist_ok=True)
        return _restore(backup, storage, database_url, watch, record=record)
    except (OSError, OperationalError, sqlite3.Error) as error:
        raise folder.refused(error, storage, "nothing was restored") from error


def _restore(
    backup: Backup, storage: Path, database_url: str, watch: Progress, *, record: bool
) -> Restored:
    waiting = storage / f"restoring-{uuid.uuid4().hex}"
    waiting.mkdir(mode=0o700)
    try:
        _copy(backup, waiting, watch)
        for name in (DATABASE, MLFLOW):
            if name in backup.files:
                databases.require_sound(waiting / name)
        watch.stage("Preparing the database")
        restored = _prepare(backup, waiting / DATABASE, storage, record=record)
        if database_url:
            _fill(waiting / DATABASE, database_url)
        _put_in_place(waiting, storage)
    finally:
        shutil.rmtree(waiting, ignore_errors=True)
    return restored


@contextmanager
def drilled(path: Path, watch: Progress = SILENT) -> Iterator[Restored]:
    """Restore into a folder that is removed again: the proof that the backup can be restored."""
    place = paths.staging_dir("drill")
    try:
        yield restore(path, place, watch=watch, record=False)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _require_known(backup: Backup) -> None:
    known = {f"{app}.{name}" for app, name in preparation.on_disk()}
    ours = tuple(f"{app}." for app in preparation.OURS)
    newer = [name for name in backup.migrations if name.startswith(ours) and name not in known]
    if newer:
        raise Conflict(
            f"{backup.path.name} was made by a newer version of the hub ({newer[0]} is unknown "
            "here); update the hub, then restore it."
        )


def _require_empty(storage: Path) -> None:
    if storage.resolve() == paths.root() and presence.running():
        raise Conflict(f"A hub is running on {storage}; stop it first.")
    for name in _FULL:
        if next((one for one in (storage / name).rglob("*") if not one.is_dir()), None):
            raise Conflict(f"{storage} is not empty ({name} has files); name an empty folder.")
    for name in (DATABASE, MLFLOW):
        if (storage / name).exists() and (storage / name).stat().st_size:
            raise Conflict(f"{storage} is not empty (it has {name}); name an empty folder.")


def _copy(backup: Backup, waiting: Path, watch: Progress) -> None:
    watch.stage("Restoring files")
    done, whole = 0, max(backup.size_bytes, 1)
    for name, entry in backup.files.items():
        target = waiting / name
        if not target.resolve().is_relative_to(waiting.resolve()):
            raise Damaged(f"{name} leads out of the backup.")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            found = files.copy(backup.path / name, target)
        except FileNotFoundError:
            raise Damaged(f"{backup.path.name} is damaged: {name} is missing.") from None
        if found != (entry.sha256, entry.size):
            raise Damaged(f"{backup.path.name} is damaged: {name} is not as it was written.")
        done += entry.size
        watch.part(done / whole)


def _prepare(backup: Backup, file: Path, storage: Path, *, record: bool) -> Restored:
    """Bring the rows to this release and record the restore; what they are."""
    with databases.opened_file(file) as alias:
        databases.migrate(alias)
        detail = f"Made {backup.created_at:%Y-%m-%d %H:%M} UTC, restored to {storage}"
        if record:
            with transaction.atomic(using=alias):
                audit(Action.BACKUP_RESTORED, backup.path.name, detail, using=alias)
        return Restored(
            storage,
            Model.objects.using(alias).count(),
            ModelVersion.objects.using(alias).count(),
            Dataset.objects.using(alias).count(),
            len(backup.files),
            backup.size_bytes,
            backup.missing,
        )


def _fill(file: Path, database_url: str) -> None:
    with databases.opened(database_url) as target:
        rows.require_empty(target)
        databases.migrate(target)
        with databases.opened_file(file) as source:
            rows.copy(source, target)
            connections[source].close()
    file.unlink()


def _put_in_place(waiting: Path, storage: Path) -> None:
    """The database last: a folder without one is no hub."""
    for path in sorted(waiting.iterdir(), key=lambda one: one.name == DATABASE):
        target = storage / path.name
        if path.name == "run":  # what processes have left there stays
            target.mkdir(exist_ok=True)
            for file in path.iterdir():
                file.replace(target / file.name)
            continue
        if target.is_dir():
            shutil.rmtree(target)  # folders without a file, as `_require_empty` has seen
        path.rename(target)
    fsync(storage)
