"""How often `up` has started each of its processes again, for who reports it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from registry.storage import paths


def write(counts: Mapping[str, int]) -> None:
    """Called by `up`. A disk that is full must not end it."""
    file = _file()
    new = file.with_suffix(".new")
    try:
        new.write_text(json.dumps(counts))
        new.replace(file)
    except OSError:
        return


def read() -> dict[str, int]:
    """By process; empty when the processes were not started by `up`."""
    try:
        return {str(name): int(count) for name, count in json.loads(_file().read_text()).items()}
    except (OSError, ValueError):
        return {}


def _file() -> Path:
    return paths.run_dir() / "restarts.json"
