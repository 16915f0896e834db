"""Which journal mode is safe with the installed SQLite library; copies of a database in use."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

# The WAL-reset fix (sqlite.org/wal.html, "The WAL-Reset Bug") and the branches it was taken to.
_FIXED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))


def wal_is_safe(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite carries the WAL-reset fix, in its own branch or a later one."""
    return version >= _FIXED[0] or any(
        version[:2] == fixed[:2] and version >= fixed for fixed in _FIXED
    )


def journal_mode() -> str:
    """ "WAL" where it is safe, else "DELETE" (slower under concurrent reads, always sound).

    HUB_ASSUMED_SQLITE names another version, for tests: the mode is then that of this version.
    """
    version = sqlite3.sqlite_version_info[:3]
    if assumed := os.environ.get("HUB_ASSUMED_SQLITE"):
        major, minor, patch = map(int, assumed.split("."))
        version = (major, minor, patch)
    return "WAL" if wal_is_safe(version) else "DELETE"


def pragmas() -> str:
    """What each connection sets first. On macOS a plain fsync leaves writes in the disk's cache, in
    any order, so SQLite is asked for F_FULLFSYNC; other systems ignore that."""
    return (
        f"PRAGMA journal_mode={journal_mode()}; PRAGMA synchronous=NORMAL; "
        "PRAGMA fullfsync=1; PRAGMA checkpoint_fullfsync=1;"
    )


def copy_file(source: Path, target: Path) -> None:
    """A consistent copy, as one file, of a SQLite database that others may be writing to. Raises
    sqlite3.Error."""
    with (
        closing(sqlite3.connect(source, timeout=60)) as here,
        closing(sqlite3.connect(target)) as there,
    ):
        here.backup(there)  # all pages at once: in steps, every write would begin it again
        there.execute("PRAGMA journal_mode=DELETE")
    target.chmod(0o600)
