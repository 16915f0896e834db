"""What the dialects share: the names that nothing reads, texts, JSON within a text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from registry.datasets.files.values import BadLine, Row

_KEPT = 50  # names
_WIDTH = 60  # characters of a name


class Unused:
    """Names of columns and fields that no training reads: the first 50, each once."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = set(names)

    def note(self, given: Mapping[str, Any], known: frozenset[str], within: str = "") -> None:
        """Note the fields of `given` that are not `known`; a field that is null says nothing."""
        if not given.keys() <= known:
            for name, value in given.items():
                if name not in known and value is not None:
                    self.add(within + name)

    def add(self, name: str) -> None:
        if len(self._names) < _KEPT:
            self._names.add(_cut(name))

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))


def plain_name(name: str) -> str:
    """A column's name without regard to case and spaces: "Review Text" is review_text."""
    return "_".join(name.lower().split())


def by_plain_name(names: Iterable[str]) -> dict[str, str]:
    """A file's own name of each column by its plain one; of several, the one that is plain, or the
    first."""
    found: dict[str, str] = {}
    for name in names:
        plain = plain_name(name)
        if plain == name:
            found[plain] = name
        found.setdefault(plain, name)
    return found


def listed(names: Iterable[str]) -> str:
    """Names in a sentence, however many and long they are."""
    shown = [_cut(name) for name in islice(names, _KEPT + 1)]
    return ", ".join([*shown[:_KEPT], "…"] if len(shown) > _KEPT else shown)


def check_text(row: Row, key: str) -> None:
    """Raises BadLine unless the field is a text that is not blank."""
    if not isinstance(row.get(key), str) or not row[key].strip():
        raise BadLine(f'"{key}" must be a non-empty text.')


def decoded(text: Any, key: str) -> Any:
    """A column that holds JSON as a text, as Parquet and CSV files often do. Raises BadLine."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise BadLine(f'"{key}" holds a text that is not JSON.') from None


def short(value: Any) -> str:
    """A value as an error shows it."""
    return _cut(repr(value))


def _cut(text: str) -> str:
    """A name of bounded length that every database and terminal can hold."""
    shown = text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"
    return shown.encode("utf-8", "replace").decode().replace("\0", "?")
