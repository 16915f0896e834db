"""Which journal mode is safe with the installed SQLite library."""

from __future__ import annotations

import sqlite3

# The WAL-reset fix (sqlite.org/wal.html, "The WAL-Reset Bug") and the branches it was taken to.
_FIXED = ((3, 51, 3), (3, 50, 7), (3, 44, 6))


def wal_is_safe(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite carries the WAL-reset fix, in its own branch or a later one."""
    return version >= _FIXED[0] or any(
        version[:2] == fixed[:2] and version >= fixed for fixed in _FIXED
    )


def journal_mode() -> str:
    """ "WAL" where it is safe, else "DELETE" (slower under concurrent reads, always sound)."""
    return "WAL" if wal_is_safe(sqlite3.sqlite_version_info[:3]) else "DELETE"
