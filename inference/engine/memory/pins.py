"""Which models stay in memory, kept in a file so that a restarted engine loads them again.

A model whose loading ends the process (the system kills it when memory runs out) must not do so at every
start: beside the file lies another one, of how often in a row that happened to which model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from inference.protocol import Load

log = structlog.get_logger(__name__)
_LOADS: TypeAdapter[list[Load]] = TypeAdapter(list[Load])
_DEATHS: TypeAdapter[dict[str, int]] = TypeAdapter(dict[str, int])
MOST_DEATHS = 2  # after so many in a row a pinned model is loaded only on request


class Pins:
    """The requests that loaded what is pinned, in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._deaths = path.with_suffix(".deaths")

    def read(self) -> list[Load]:
        """Empty when there is no file, or one that cannot be read."""
        try:
            return _LOADS.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return []
        except (OSError, ValidationError):
            log.exception("pinned models unreadable", path=str(self._path))
            return []

    @contextmanager
    def attempt(self, load: Load) -> Iterator[None]:
        """Counts as a death of the process until it is over."""
        self._note(load, self.deaths(load) + 1)
        try:
            yield
        finally:
            self._note(load, 0)

    def deaths(self, load: Load) -> int:
        """How often in a row the process ended while it loaded this one."""
        return self._counted().get(_label(load), 0)

    def _counted(self) -> dict[str, int]:
        try:
            return _DEATHS.validate_json(self._deaths.read_bytes())
        except (OSError, ValidationError):
            return {}

    def _note(self, load: Load, deaths: int) -> None:
        counted = self._counted() | {_label(load): deaths}
        kept = {label: times for label, times in counted.items() if times}
        _replace(self._deaths, json.dumps(kept))

    def add(self, load: Load) -> None:
        if self.deaths(load):
            self._note(load, 0)
        others = [pin for pin in self.read() if _label(pin) != _label(load)]
        self._write([*others, load])

    def discard(self, meant: Callable[[Load], bool]) -> None:
        """Forget the pins for which `meant` is true."""
        self._write([pin for pin in self.read() if not meant(pin)])

    def _write(self, loads: list[Load]) -> None:
        _replace(self._path, json.dumps([load.model_dump() for load in loads], indent=2))


def _label(load: Load) -> str:
    return f"{load.base.path} {load.adapter.path if load.adapter else ''}"


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)
