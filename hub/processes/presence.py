"""Which of the hub's processes are running on this storage folder.

Each long-running process holds an exclusive lock on `storage/run/NAME.alive` while it runs, and
writes its pid into the file. The kernel releases the lock when the process exits, however it exits,
so nothing here can be stale and no pid is mistaken for another process's.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from registry.storage import paths

_held: dict[Path, IO[str]] = {}  # open files: closing one releases its lock


class AlreadyRunning(RuntimeError):
    """Another process of that name is running on this storage folder."""


class NoLocks(AlreadyRunning):
    """The drive of this storage folder has no file locks, so nobody can know."""


def _file(name: str) -> Path:
    return paths.run_dir() / f"{name}.alive"


def announce(name: str) -> None:
    """Hold `name` until this process exits. Raises AlreadyRunning when another process holds it, and
    NoLocks where none can be held."""
    path = _file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")  # children do not inherit it: Python opens files close-on-exec
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        holder = pid(name)
        raise AlreadyRunning(
            f"Another {name} process (pid {holder or 'unknown'}) already uses {paths.root()}. "
            "Stop it first, or set HUB_STORAGE to another folder."
        ) from None
    except OSError as error:  # some network drives
        file.close()
        raise NoLocks(
            f"The drive of {paths.root()} has no file locks ({error.strerror}), which the hub and its "
            "database need: set HUB_STORAGE to a folder on this machine's own disk."
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    _held[path] = file


def withdraw(name: str) -> None:
    """Release `name`; does nothing when it is not held."""
    if file := _held.pop(_file(name), None):
        file.close()


def alive(name: str) -> bool:
    """Whether a process holds `name` right now."""
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


def is_new(name: str, seconds: float) -> bool:
    """Whether a process holds `name` and has announced itself less than so many seconds ago."""
    try:
        age = time.time() - _file(name).stat().st_mtime
    except FileNotFoundError:
        return False
    return age < seconds and alive(name)


def pid(name: str) -> int | None:
    """The pid of the process that holds `name`, or None."""
    if not alive(name):
        return None
    try:
        return int(_file(name).read_text())
    except (FileNotFoundError, ValueError):  # the process has not written it yet
        return None


def running() -> str | None:
    """The name of one of the hub's processes that runs on this storage folder; None without any."""
    files = sorted(paths.run_dir().glob("*.alive"))
    return next((path.stem for path in files if alive(path.stem)), None)
