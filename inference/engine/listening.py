"""The engine's socket file, and the lock that shows whether its engine lives."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from registry.errors import Conflict


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A bound socket at `path`, mode 0600. Raises Conflict while another engine lives.

    The lock distinguishes a live engine from the socket that a killed one left: the kernel drops the lock
    with its process.
    """
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"Another engine already listens on {path}; stop it first.") from None
        path.unlink(missing_ok=True)
        with _bound(path) as sock:
            try:
                yield sock
            finally:
                path.unlink(missing_ok=True)


def _bound(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # the mode from the first moment, not after a chmod
    try:
        sock.bind(str(path))
    finally:
        os.umask(mask)
    return sock
