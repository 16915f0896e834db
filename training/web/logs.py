"""The log of a job's processes as pages show it: its end, or the lines that contain a text."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

MOST_BYTES = 8 << 20  # of the end of a log, which is searched
MOST_LINES = 400
_LINE_FIELDS = ("timestamp", "level", "event", "process", "logger", "correlation_id", "job")

type Pieces = list[tuple[str, bool]]  # of a line: a text, and whether it is what was looked for


@dataclass(frozen=True)
class Excerpt:
    """The last `MOST_LINES` of the `found` lines; the log has `total`."""

    lines: list[Pieces]
    found: int = 0
    total: int = 0
    query: str = ""
    is_cut: bool = False  # the log is longer than what was read

    @property
    def html(self) -> SafeString:
        """The lines, with what was looked for marked."""
        return format_html_join("\n", "{}", ((_html(line),) for line in self.lines))

    @property
    def summary(self) -> str:
        """`3 of 120 lines`, `last 400 of 9,000 lines`."""
        of = f"the last {self.total:,} lines" if self.is_cut else f"{self.total:,} lines"
        if self.query:
            shown = f", the last {len(self.lines)} shown" if self.found > len(self.lines) else ""
            return f"{self.found:,} of {of}{shown}"
        if self.total > len(self.lines):
            return f"last {len(self.lines)} of {of}"
        return f"{self.total} line{'' if self.total == 1 else 's'}"


def excerpt(path: Path, query: str = "") -> Excerpt:
    """The readable lines of a log that contain `query`, in any case of letters; all without one.
    Nothing when there is no log."""
    kept: deque[str] = deque(maxlen=MOST_LINES)
    found = total = 0
    wanted = query.casefold()
    try:
        is_cut = path.stat().st_size > MOST_BYTES
        for raw in _lines(path):
            total += 1
            if not wanted:
                kept.append(raw)
            elif wanted in (line := readable(raw)).casefold():
                found += 1
                kept.append(line)
    except OSError:
        return Excerpt([], query=query)
    lines = [_marked(line, query) if query else [(readable(line), False)] for line in kept]
    return Excerpt(lines, found, total, query, is_cut)


def _html(line: Pieces) -> SafeString:
    pieces = (format_html("<mark>{}</mark>" if hit else "{}", text) for text, hit in line)
    return format_html_join("", "{}", ((piece,) for piece in pieces))


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) > MOST_BYTES:
            file.seek(-MOST_BYTES, os.SEEK_END)
            file.readline()  # the rest of a line
        else:
            file.seek(0)
        for line in file:
            yield line.decode("utf-8", "replace").rstrip("\r\n")


def _marked(line: str, query: str) -> Pieces:
    """The line cut at every place of `query`. Letters that change their length with their case are
    left unmarked."""
    folded, wanted = line.casefold(), query.casefold()
    if len(folded) != len(line):
        return [(line, False)]
    pieces: Pieces = []
    start = 0
    while (at := folded.find(wanted, start)) >= 0:
        end = at + len(wanted)
        pieces += [(line[start:at], False), (line[at:end], True)]
        start = end
    return [*pieces, (line[start:], False)]


def readable(line: str) -> str:
    """`19:00:45 training iteration=0` for a structured line; any other line unchanged."""
    if not line.startswith("{"):
        return line
    try:
        fields = json.loads(line)
    except ValueError:
        return line
    if not isinstance(fields, dict) or "event" not in fields:
        return line
    clock = str(fields.get("timestamp", ""))[11:19]
    level = fields.get("level", "info")
    rest = [f"{name}={value}" for name, value in fields.items() if name not in _LINE_FIELDS]
    words = [clock, "" if level == "info" else f"[{level}]", str(fields["event"]), *rest]
    return " ".join(word for word in words if word)
