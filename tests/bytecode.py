"""What Python compiles of itself and of the installed packages, kept once for all clones.

To compile it is a fiftieth of a whole run's processor time, in each new clone again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import time
from pathlib import Path

_DAYS = 14  # what no run used for so long goes


def share(prefix: Path, caches: Path, stdlib: Path, packages: Path) -> None:
    """Let what is compiled of `stdlib` and `packages` below `prefix` be links into `caches`. Python compares
    the time and size of a source with those in its bytecode, here as everywhere."""
    state = state_of(packages)
    for source, name in ((packages, f"packages-{state}"), (stdlib, f"python-{digest(stdlib)}")):
        shared = caches / name
        shared.mkdir(parents=True, exist_ok=True)
        os.utime(shared)
        _link(prefix / source.relative_to(source.anchor), shared)
    for other in caches.iterdir():
        if other.stat().st_mtime < time.time() - _DAYS * 86400:
            shutil.rmtree(other, ignore_errors=True)


def state_of(packages: Path) -> str:
    """The same in two clones that have the same packages, of which uv links the files from its own cache,
    with the time at which it unpacked them: that of Django stands for all, as uv builds a few packages
    again in each clone. Where uv copies files, each clone has a state of its own."""
    found = sorted(path.name for path in packages.glob("*.dist-info"))
    unpacked = [path.stat().st_mtime_ns for path in packages.glob("django-*.dist-info/METADATA")]
    return digest(found, unpacked)


def digest(*parts: object) -> str:
    return hashlib.sha256(repr((sys.version, parts)).encode()).hexdigest()[:16]


def _link(place: Path, shared: Path) -> None:
    if place.is_symlink() and place.readlink() == shared:
        return
    if place.is_dir() and not place.is_symlink():
        return  # of an older run
    place.parent.mkdir(parents=True, exist_ok=True)
    new = place.with_name(f"{place.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        new.symlink_to(shared)
        new.replace(place)
