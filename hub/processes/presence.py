"""Which of the hub's processes live on this storage.

Each long-running process holds an exclusive lock on `storage/run/NAME.alive` for as long as it
lives, and writes its pid into it. The kernel drops the lock when the process ends, however it
ends, so nothing here can be stale and no pid is ever mistaken for another's.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from registry.storage import paths

_held: dict[Path, IO[str]] = {}  # open files: closing one would give its lock back


class AlreadyRunning(RuntimeError):
    """Another process of that name lives on this storage."""


def _file(name: str) -> Path:
    return paths.run_dir() / f"{name}.alive"


def announce(name: str) -> None:
    """Hold `name` until this process ends. Raises AlreadyRunning when another one holds it."""
    path = _file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")  # a child does not inherit it: Python opens files close-on-exec
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        holder = pid(name)
        raise AlreadyRunning(
            f"Another {name} process (pid {holder or 'unknown'}) already runs on {paths.root()}; "
            "end it first, or set HUB_STORAGE to another folder."
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    _held[path] = file


def withdraw(name: str) -> None:
    """Give `name` back; it need not be held."""
    if file := _held.pop(_file(name), None):
        file.close()


def alive(name: str) -> bool:
    """Whether a process holds `name` at this moment."""
    path = _file(name)
    if path in _held:
        return True
    try:
        file = path.open()
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def pid(name: str) -> int | None:
    """The pid of the process that holds `name`, or None when none does."""
    if not alive(name):
        return None
    try:
        return int(_file(name).read_text())
    except (FileNotFoundError, ValueError):  # it was just about to write it
        return None
