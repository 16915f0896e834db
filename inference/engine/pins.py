"""Which models stay in memory, kept in a file so that a restarted engine loads them again."""

from __future__ import annotations

import json
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from inference.protocol import Load

log = structlog.get_logger(__name__)
_LOADS: TypeAdapter[list[Load]] = TypeAdapter(list[Load])


class Pins:
    """The requests that loaded what is pinned, in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Load]:
        """Empty when there is no file, or one that cannot be read."""
        try:
            return _LOADS.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, ValidationError):
            log.exception("pinned models are not known", path=str(self._path))
            return []

    def add(self, load: Load) -> None:
        self._write([*self._others(load.base.path, _path(load)), load])

    def discard(self, base: str, adapter: str | None) -> None:
        """Forget the model of that base and adapter; with no adapter all of the base."""
        self._write(self._others(base, adapter))

    def _others(self, base: str, adapter: str | None) -> list[Load]:
        pins = self.read()
        return [p for p in pins if p.base.path != base or (adapter and _path(p) != adapter)]

    def _write(self, loads: list[Load]) -> None:
        text = json.dumps([load.model_dump() for load in loads], indent=2)
        new = self._path.with_suffix(".new")
        new.write_text(text)
        new.replace(self._path)


def _path(load: Load) -> str | None:
    return load.adapter.path if load.adapter else None
