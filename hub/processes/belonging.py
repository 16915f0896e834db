"""Whether database and storage belong together: rows name files in one storage folder alone.

The folder has an id in `storage/id`, which goes with it when it is moved or restored; the database
records it at the first start.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from pathlib import Path

from django.db import IntegrityError, transaction

from hub.models import StorageId
from registry.storage import paths

_WRITTEN_S = 1.0  # more than a process takes from making a file to writing a line


def problem() -> str | None:
    """Why this database must not be used with this storage, or None. Reads the database, and
    records the storage in one that belongs to none yet."""
    ours = storage_id()
    with contextlib.suppress(IntegrityError), transaction.atomic():  # another process was first
        StorageId.objects.get_or_create(
            only=True,
            defaults={"storage_id": ours, "path": str(paths.root()), "host": socket.gethostname()},
        )
    theirs = StorageId.objects.get()
    if theirs.storage_id == ours:
        return None
    return (
        f"The database belongs to another storage folder, {theirs.path} on {theirs.host}, and its "
        f"versions would seem damaged from {paths.root()}: set HUB_STORAGE to that folder, or "
        "DATABASE_URL to a database of this hub's own. If that folder is gone for good, delete "
        "the row of hub_storageid."
    )


def storage_id() -> uuid.UUID:
    """The id of the storage folder, made once."""
    path = paths.root() / "id"
    try:
        return uuid.UUID(path.read_text().strip())
    except (FileNotFoundError, ValueError):
        return _made(path)


def _made(path: Path) -> uuid.UUID:
    """Written whole under another name first: two processes agree on whichever came first."""
    made = uuid.uuid4()
    waiting = path.with_name(f"id-{made}")
    waiting.write_text(f"{made}\n")
    try:
        _put(waiting, path)
    except FileExistsError:
        with contextlib.suppress(ValueError):
            return uuid.UUID(_written(path))
        waiting.replace(path)  # what was there was no id
    finally:
        waiting.unlink(missing_ok=True)
    return made


def _put(waiting: Path, path: Path) -> None:
    """Raises FileExistsError when another process was first."""
    try:
        os.link(waiting, path)
    except FileExistsError:
        raise
    except OSError:  # exFAT and network drives have no links
        with path.open("x") as file:
            file.write(waiting.read_text())


def _written(path: Path) -> str:
    """What the file says, once the process that made it has written it."""
    deadline = time.monotonic() + _WRITTEN_S
    while not (text := path.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return text
