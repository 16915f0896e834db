"""Making files outlive a power failure; the one place that knows how each system does it."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path


def fsync(path: Path) -> None:
    """Push a file or folder to the disk itself; on macOS plain fsync stops at the disk's cache.

    A file system without F_FULLFSYNC (a network share, exFAT) gets the plain one, and one that
    cannot push a folder either is left to do so by itself.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if sys.platform == "darwin":
            import fcntl

            try:
                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            except OSError:
                _plain(descriptor, path)
        else:
            _plain(descriptor, path)
    finally:
        os.close(descriptor)


def _plain(descriptor: int, path: Path) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise


def sync_folder(folder: Path) -> None:
    """Flush every file of `folder`, then the folder itself."""
    for path in folder.iterdir():
        fsync(path)
    fsync(folder)
