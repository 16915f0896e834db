"""One backup: a folder that looks like storage, with `backup.json`, which names every file in it
with its size and sha256, and `backup.json.sha256`, which seals that."""

from __future__ import annotations

import datetime
import errno
import fcntl
import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from backends.durable import fsync
from hub.backups import databases
from registry.errors import Conflict, Damaged, DiskFull, HubError, Invalid, NotFound
from registry.storage import artifacts

DATABASE = "hub.sqlite3"
MLFLOW = "mlflow.sqlite3"
_MANIFEST, _SEAL = "backup.json", "backup.json.sha256"
_FORMAT = 1
_NAME = re.compile(r"hub-([0-9]{8}T[0-9]{6}Z)(-[0-9]+)?")
_FOLDERS = """
    SELECT path, manifest_sha256, '' FROM registry_basemodel
    UNION SELECT path, checksum, '' FROM registry_dataset
    UNION SELECT artifact_path, manifest_sha256, moving_to FROM registry_modelversion
    WHERE status IN ('ready', 'archived') AND artifact_path <> ''"""


@dataclass(frozen=True)
class Entry:
    """One file of a backup. `mtime_ns` is that of the file it was copied from."""

    sha256: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Backup:
    """What `backup.json` says. `missing` has a sentence for each thing that could not be kept."""

    path: Path
    created_at: datetime.datetime
    migrations: list[str]
    missing: list[str]
    files: dict[str, Entry]

    @property
    def size_bytes(self) -> int:
        return sum(entry.size for entry in self.files.values())


def backups(place: Path) -> list[Path]:
    """The finished backups in `place`, the oldest first."""
    if not place.is_dir():
        return []
    return sorted(path for path in place.iterdir() if _NAME.fullmatch(path.name) and path.is_dir())


def made_at(path: Path) -> datetime.datetime:
    """When the backup was started, by its name."""
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return datetime.datetime.strptime(match[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)


def name_for(place: Path, moment: datetime.datetime) -> Path:
    """A free name for a backup of that moment."""
    stem, number = f"hub-{moment:%Y%m%dT%H%M%SZ}", 1
    while (path := place / (stem if number == 1 else f"{stem}-{number}")).exists():
        number += 1
    return path


def seal(backup: Backup) -> None:
    """Write the manifest and what seals it into `backup.path`, durably."""
    content = {
        "format": _FORMAT,
        "created_at": backup.created_at.isoformat(),
        "migrations": backup.migrations,
        "missing": backup.missing,
        "files": {name: asdict(entry) for name, entry in sorted(backup.files.items())},
    }
    text = json.dumps(content, indent=1).encode()
    (backup.path / _MANIFEST).write_bytes(text)
    # As `sha256sum --check` reads it.
    digest = hashlib.sha256(text).hexdigest()
    (backup.path / _SEAL).write_text(f"{digest}  {_MANIFEST}\n")
    for name in (_MANIFEST, _SEAL):
        fsync(backup.path / name)
    fsync(backup.path)


def read(path: Path) -> Backup:
    """Raises NotFound when there is no backup at `path`, Damaged when its manifest is not as it was
    written, Conflict when a newer hub wrote it."""
    try:
        text = (path / _MANIFEST).read_bytes()
    except OSError:
        raise NotFound(f"{path} is no backup: it has no {_MANIFEST}.") from None
    try:
        sealed = (path / _SEAL).read_text().split()[0]
        found = json.loads(text)
        if hashlib.sha256(text).hexdigest() != sealed:
            raise ValueError
        if found["format"] != _FORMAT:
            raise Conflict(f"{path.name} was made by a newer version of the hub; restore it there.")
        return Backup(
            path,
            datetime.datetime.fromisoformat(found["created_at"]),
            found["migrations"],
            found["missing"],
            {name: Entry(**entry) for name, entry in found["files"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        raise Damaged(f"{path.name}/{_MANIFEST} is not as it was written.") from None


def verify(path: Path) -> list[str]:
    """Read every byte of a backup; what is wrong with it, a sentence each. Raises as `read` does."""
    backup = read(path)
    problems = [
        said for name, entry in backup.files.items() if (said := _problem(path / name, name, entry))
    ]
    for name in (DATABASE, MLFLOW):
        if name in backup.files:
            problems += databases.check_file(path / name)
    if not problems:
        problems += _lacking(backup)
    return problems


def _problem(path: Path, name: str, entry: Entry) -> str | None:
    try:
        if path.stat().st_size != entry.size:
            return f"{name} has {path.stat().st_size} bytes, {entry.size} were recorded."
        if artifacts.sha256(path) != entry.sha256:
            return f"{name} has other content than was recorded."
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})."
    return None


def _lacking(backup: Backup) -> list[str]:
    """Folders that rows name and that are not in the backup, unless it says so itself."""
    named = {folder for folder, *_ in folders(backup.path / DATABASE)}
    kept = {name.rpartition("/")[0] for name in backup.files if name.endswith("manifest.json")}
    said = " ".join(backup.missing)
    return [f"{name} is missing." for name in sorted(named - kept) if name not in said]


def folders(database: Path) -> list[tuple[str, str, str]]:
    """The sealed folders that rows of a SQLite file name: path, sha256 of the manifest, and where a
    move is taking it. Read without Django's models, whose columns an older file may lack."""
    address = f"{database.resolve().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(address, uri=True)) as connection:
        return sorted(tuple(map(str, row)) for row in connection.execute(_FOLDERS))  # type: ignore[misc]


def refused(error: Exception, place: Path, what: str) -> HubError:
    """An error of the system or of SQLite as a sentence. `what` has not happened: "no backup was made,
    and the earlier ones are as they were"."""
    said = str(error)
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    if full or "disk is full" in said:
        return DiskFull(f"The disk of {place} is full: {what}. Make room, or name another disk.")
    if isinstance(error, OSError):
        reason = error.strerror or type(error).__name__
        return Invalid(f"{error.filename or place} cannot be used ({reason}): {what}.")
    return Damaged(f"The database cannot be copied ({said}): {what}.")


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Nobody else makes a backup in `place` meanwhile. Raises Conflict when somebody does."""
    with (place / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"Another backup is being made in {place}; wait for it.") from None
        except OSError:  # a network drive without locks
            pass
        yield
