"""Rows of a data set's files as they come: JSON, Parquet or CSV, one at a time.

Knows files and nothing of what an example should hold, and no Django. However large a file is,
only a batch of its rows is in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any

from registry.datasets.files import values
from registry.datasets.files.documents import LISTS, items
from registry.datasets.files.others import START, check_kind
from registry.datasets.files.parquet import parquet_rows
from registry.datasets.files.tables import table
from registry.datasets.files.unpacking import PACKINGS, Input, opened, unpacked
from registry.datasets.files.values import BadLine, Row

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".tsv")
_SAME = {".ndjson": ".jsonl", ".jsonlines": ".jsonl", ".jl": ".jsonl", ".tab": ".tsv"}
"""Other names of these kinds."""
_LIST = re.compile(r"\s*\{\s*\"(" + "|".join(LISTS) + r')"\s*:\s*\[\s*[\{\]]')

type Tick = Callable[[float], None]
"""Called with the share of a file that is read, 0 to 1."""
type Left = Callable[[str], None]
"""Called with the name of what a file holds beside its rows."""
type Place = str
"""Where a row stands in its file: "line 3", "item 3"."""


def kind(name: str | PurePath) -> str:
    """Which of SUFFIXES a file is by its name, compressed or not; "" for none of them."""
    path = PurePath(str(name).lower())
    if path.suffix in PACKINGS:
        path = PurePath(path.stem)
    suffix = _SAME.get(path.suffix, path.suffix)
    return suffix if suffix in SUFFIXES else ""


def packing(name: str | PurePath) -> str:
    """.gz, .zst or "" for a file that is not compressed."""
    suffix = PurePath(str(name).lower()).suffix
    return suffix if suffix in PACKINGS else ""


def rows(
    path: Path, tick: Tick = lambda _: None, left: Left = lambda _: None, name: str = ""
) -> Iterator[tuple[Place, Row | str | BadLine]]:
    """(place, row) of every row of `path` that is not blank; a JSON line comes as its text.

    What is no row at all comes as a BadLine in its place. `name` is what errors call the file.
    Raises Invalid when the file as a whole cannot be read.
    """
    name = name or path.name
    suffix = kind(path)
    if suffix == ".parquet":
        with unpacked(path, packing(path), name) as whole:
            with whole.open("rb") as file:
                check_kind(file.read(START), suffix, name)
            for number, row in enumerate(parquet_rows(whole, tick, name), 1):
                yield f"line {number}", row
        return
    with opened(path, packing(path), name) as file:
        check_kind(file.start(), kind(name), name)
        if suffix in (".csv", ".tsv"):
            yield from table(file, tick, suffix, name)
        elif _is_document(file, suffix):
            yield from items(file, tick, left)
        else:
            yield from _json_lines(file, tick)


# ---------------------------------------------------------------- JSON


def _is_document(file: Input, suffix: str) -> bool:
    """Whether a JSON file is one value over many lines, or a list, rather than lines of JSON."""
    start = file.start().decode("utf-8-sig", "ignore").lstrip()
    if not start.startswith("{"):
        return start.startswith("[")
    line, end, _ = start.partition("\n")
    try:
        first = json.loads(line)
    except (ValueError, RecursionError):
        if end:
            return suffix == ".json" or line.strip() == "{"
        return suffix == ".json" or _LIST.match(line) is not None
    if start[len(line) :].strip():
        return False  # more lines follow: each is an example
    return isinstance(first, dict) and any(_is_list(first.get(key)) for key in LISTS)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _json_lines(file: Input, tick: Tick) -> Iterator[tuple[Place, str | BadLine]]:
    for number, raw in enumerate(iter(lambda: file.readline(values.LONGEST_LINE), b""), start=1):
        tick(file.share())
        place = f"line {number}"
        if len(raw) == values.LONGEST_LINE:
            yield place, BadLine(f"the line is longer than {values.LONGEST_LINE >> 20} MiB.")
            return
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            yield place, BadLine("the text is not UTF-8.")
            continue
        if line:
            yield place, line
