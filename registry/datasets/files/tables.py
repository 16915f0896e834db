"""CSV and its like: a header line, then a row per record."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

from registry.datasets.files import values
from registry.datasets.files.unpacking import Input
from registry.datasets.files.values import BadLine, Row
from registry.errors import Invalid


def table(
    file: Input, tick: Callable[[float], None], suffix: str, name: str
) -> Iterator[tuple[str, Row | BadLine]]:
    csv.field_size_limit(values.LONGEST_LINE)
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
