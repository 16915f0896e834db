"""When `up` has started each of its processes again, for who reports it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from registry.storage import paths

_MOST = 20  # moments of each process


class Restarts:
    """The side of `up`. A disk that is full must not end it."""

    def __init__(self, processes: Sequence[str]) -> None:
        self._counts = dict.fromkeys(processes, 0)
        self._moments: dict[str, list[float]] = {name: [] for name in processes}
        self._write()

    def add(self, process: str) -> None:
        self._counts[process] += 1
        self._moments[process] = [*self._moments[process], round(time.time(), 1)][-_MOST:]
        self._write()

    def _write(self) -> None:
        file = _file()
        new = file.with_suffix(".new")
        with contextlib.suppress(OSError):
            new.write_text(json.dumps({"counts": self._counts, "moments": self._moments}))
            new.replace(file)


def counts() -> dict[str, int]:
    """How often, by process; empty when the processes were not started by `up`."""
    return dict(_read().get("counts", {}))


def moments() -> dict[str, list[float]]:
    """When it last happened, by process, in seconds since 1970."""
    return dict(_read().get("moments", {}))


def _read() -> dict[str, Any]:
    try:
        return dict(json.loads(_file().read_text()))
    except (OSError, ValueError):
        return {}


def _file() -> Path:
    return paths.run_dir() / "restarts.json"
