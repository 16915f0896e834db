"""One row, from its dialect to what training reads."""

from __future__ import annotations

import re
from collections.abc import Mapping

from registry.datasets.dialects.chats import written_messages
from registry.datasets.dialects.parts import Unused, decoded, listed
from registry.datasets.dialects.table import Dialect, match
from registry.datasets.dialects.transcripts import is_transcript, turns
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import Format

_DECODED = frozenset({"messages", "conversations", "conversation"})
_PERHAPS = frozenset(
    {"prompt", "completion", "chosen", "rejected", "preferred_output", "non_preferred_output"}
)
_DECIDING = frozenset({"messages", "chosen", "rejected", "prompt", "completion", "text"})
"""By these fields a backend knows the format, even when they are null."""
_TEXTS = _DECODED | _PERHAPS | {"answers"}
_MEDIA = ("image", "images", "video", "videos", "audio", "audios")
_PLACEHOLDER = re.compile("<(image|video|audio)>")
_MAY_BE_ABSENT = frozenset({"system", "history", "context", "tools", "thoughts"})
"""Mapped columns without which a row says the same."""


def canonical(row: Row, columns: Mapping[str, str], unused: Unused) -> tuple[Dialect, Format, Row]:
    """The dialect of a row, its format, and the row with the names that training reads.

    `columns` maps such a name to the column that holds it; the others are not used then. A row
    that needs no change is returned as it is. Fields that nothing reads are noted in `unused`.
    Raises BadLine when the row is in no dialect, or not right in its own.
    """
    if columns:
        row = _mapped(row, columns, unused)
    if changed := _unpacked(row):
        row = {**row, **changed}
    if None in row.values():
        row = {
            key: value for key, value in row.items() if value is not None or key not in _DECIDING
        }
    if ("chosen" in row) != ("rejected" in row):
        missing = "rejected" if "chosen" in row else "chosen"
        raise BadLine(f'needs both "chosen" and "rejected"; "{missing}" is missing.')
    _check_no_media(row)
    dialect = match(row, chosen=bool(columns))
    unused.note(row, dialect.known)
    return dialect, *dialect.read(row, unused)


def _check_no_media(row: Row) -> None:
    """Raises BadLine for a row whose text refers to images and the like, which nothing learns."""
    found = [key for key in _MEDIA if row.get(key)]
    if found and _PLACEHOLDER.search(repr(row)):
        raise BadLine(
            f'asks about what is in "{found[0]}"; only text can be learned, so leave such rows out.'
        )


def _unpacked(row: Row) -> Row:
    """The fields whose text is JSON of messages, as CSV files have them. Raises BadLine."""
    changed: Row = {}
    for key in row.keys() & _TEXTS:
        text = row[key]
        if not isinstance(text, str):
            continue
        if key in _DECODED and is_transcript(text):
            changed[key] = turns(text)
        elif key == "answers":
            if text.lstrip().startswith("{"):
                changed[key] = decoded(text, key)
        elif key in _DECODED:
            found = written_messages(text, key)
            changed[key] = found or (decoded(text, key) if text.strip() else None)
        elif found := written_messages(text, key):
            changed[key] = found
    if "preferred_output" in changed and isinstance(row.get("input"), str):
        changed["input"] = decoded(row["input"], "input")
    return changed


def _mapped(row: Row, columns: Mapping[str, str], unused: Unused) -> Row:
    """The mapped columns alone: another one could otherwise decide the format."""
    missing = [
        name for key, name in columns.items() if name not in row and key not in _MAY_BE_ABSENT
    ]
    if missing:
        raise BadLine(f'has no "{missing[0]}"; it has {listed(row) or "nothing"}.')
    unused.note(row, frozenset(columns.values()))
    return {target: row[name] for target, name in columns.items() if name in row}
