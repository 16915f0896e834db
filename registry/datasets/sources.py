"""Rows of a data set's files as they come: JSON, Parquet or CSV, one at a time.

Knows files and nothing of what an example should hold, and no Django. However large a file is,
only a batch of its rows is in memory.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any, NoReturn

from registry.datasets.unpacking import PACKINGS, Input, opened
from registry.errors import Invalid

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".tsv")
LISTS = ("data", "rows", "examples", "instances")
"""What the list of examples is called within a JSON document that is an object."""

LONGEST_LINE = 16 << 20  # bytes
_LIST = re.compile(r"\s*\{\s*\"(" + "|".join(LISTS) + r')"\s*:\s*\[\s*[\{\]]')

type Row = dict[str, Any]
type Tick = Callable[[float], None]
"""Called with the share of a file that is read, 0 to 1."""
type Left = Callable[[str], None]
"""Called with the name of what a file holds beside its rows."""
type Place = str
"""Where a row stands in its file: "line 3", "item 3"."""


class BadLine(ValueError):
    """What is wrong with one example, without saying where."""


def kind(name: str | PurePath) -> str:
    """Which of SUFFIXES a file is by its name, compressed or not; "" for none of them."""
    path = PurePath(str(name).lower())
    if path.suffix in PACKINGS and PurePath(path.stem).suffix != ".parquet":
        path = PurePath(path.stem)
    return path.suffix if path.suffix in SUFFIXES else ""


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
        from registry.datasets.parquet import parquet_rows

        yield from ((f"line {n}", row) for n, row in enumerate(parquet_rows(path, tick, name), 1))
        return
    with opened(path, packing(path), name) as file:
        if suffix in (".csv", ".tsv"):
            yield from _csv(file, tick, suffix, name)
        elif _is_document(file, suffix):
            from registry.datasets.documents import items

            yield from items(file, tick, left)
        else:
            yield from _json_lines(file, tick)


def parse(line: str) -> Row:
    """The JSON object on one line. Raises BadLine."""
    try:
        return checked(json.loads(line, parse_constant=_no_constant))
    except BadLine:
        raise
    except json.JSONDecodeError as error:
        raise BadLine(f"is not JSON ({error.msg} at column {error.colno}).") from None
    except RecursionError:
        raise BadLine("is nested too deeply.") from None
    except ValueError:  # a whole number of more digits than Python reads
        raise BadLine("holds a number that is too long.") from None


def checked(value: Any) -> Row:
    """The value, an object of characters and numbers that JSON has. Raises BadLine."""
    try:
        dump(value).encode()
    except UnicodeEncodeError:
        raise BadLine("holds half of a surrogate pair, which is not a character.") from None
    except RecursionError:
        raise BadLine("is nested too deeply.") from None
    if not isinstance(value, dict):
        raise BadLine("is not a JSON object.")
    return value


def dump(value: Any) -> str:
    """One line of JSON. Raises BadLine for numbers that JSON cannot say."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise BadLine("holds NaN or an infinite number, which is not JSON.") from None


def _no_constant(name: str) -> NoReturn:
    raise BadLine(f"holds {name}, which is not JSON.")


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
    return isinstance(first, dict) and any(_is_list(first.get(key)) for key in LISTS)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _json_lines(file: Input, tick: Tick) -> Iterator[tuple[Place, str | BadLine]]:
    for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
        tick(file.share())
        place = f"line {number}"
        if len(raw) == LONGEST_LINE:
            yield place, BadLine(f"the line is longer than {LONGEST_LINE >> 20} MiB.")
            return
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            yield place, BadLine("the text is not UTF-8.")
            continue
        if line:
            yield place, line


# ---------------------------------------------------------------- CSV


def _csv(file: Input, tick: Tick, suffix: str, name: str) -> Iterator[tuple[Place, Row | BadLine]]:
    csv.field_size_limit(LONGEST_LINE)
    dialect = _dialect(file.start().decode("utf-8-sig", "ignore"), suffix, name)
    try:
        with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, dialect=dialect, strict=True)
            columns = list(reader.fieldnames or [])
            if not any(columns):
                raise Invalid(f"{name} needs a header line with column names.")
            if twice := next((c for n, c in enumerate(columns) if c in columns[:n]), None):
                raise Invalid(f"{name} has two columns named {twice[:60]!r}; rename one.")
            for row in _records(reader):
                tick(file.share())
                place = f"line {reader.line_num}"
                if isinstance(row, BadLine):
                    yield place, row
                elif None in row or None in row.values():
                    yield place, BadLine(f"does not have {len(columns)} columns.")
                else:
                    yield place, row
    except UnicodeDecodeError:
        raise Invalid(f"{name} is not UTF-8 text; save it as UTF-8.") from None


def _records(reader: csv.DictReader[str]) -> Iterator[dict[Any, Any] | BadLine]:
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadLine(f"is not CSV ({error}).")
            return


def _dialect(start: str, suffix: str, name: str) -> type[csv.Dialect]:
    """Commas, semicolons or tabs, by the first line. Raises Invalid for a file without text."""
    if not start.strip():
        raise Invalid(f"{name} holds no example.")
    header = start.splitlines()[0]
    separator = max((",", ";", "\t", "|"), key=header.count)

    class Found(csv.excel):
        delimiter = "\t" if suffix == ".tsv" else separator

    return Found
