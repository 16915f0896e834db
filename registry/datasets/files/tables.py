"""CSV and its like: a header line, then a row per record."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from itertools import islice

from registry.datasets.files import values
from registry.datasets.files.unpacking import START, Input
from registry.datasets.files.values import BadLine, Row
from registry.errors import Invalid

_SEPARATORS = (",", ";", "\t", "|")
_SAID = re.compile(r'"?sep=(.)"?\s*')
_LOOKED_AT = 50  # records by which a file's separator is found


def table(
    file: Input, tick: Callable[[float], None], suffix: str, name: str
) -> Iterator[tuple[str, Row | BadLine]]:
    """(place, row) of every record that has a value. A column without a name is called by its
    number, and left out where it is empty. Raises Invalid for a header that cannot be used."""
    csv.field_size_limit(values.LONGEST_LINE)
    start = file.start()
    lines = io.StringIO(start.decode("utf-8-sig", "ignore"), newline="").readlines()
    if not any(map(str.strip, lines)):
        raise Invalid(f"{name} holds no example.")
    said = _SAID.fullmatch(lines[0])  # as Excel writes it
    separator = said[1] if said else "\t" if suffix == ".tsv" else ""
    dialect = _dialect(lines[1 if said else 0 :], separator, whole=len(start) < START)
    try:
        with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            if said:
                text.readline()
            reader = csv.reader(text, dialect=dialect, strict=True)
            columns = _columns(reader, name)
            for record in _records(reader):
                tick(file.share())
                place = f"line {reader.line_num}"
                if isinstance(record, BadLine):
                    yield place, record
                elif any(record):
                    yield place, _row(record, columns, dialect.delimiter)
    except UnicodeDecodeError:
        raise Invalid(f"{name} is not UTF-8 text; save it as UTF-8 (Excel: CSV UTF-8).") from None


def _columns(reader: Iterator[list[str]], name: str) -> list[str]:
    """The names in the header, "" for a column without one. Raises Invalid."""
    try:
        columns = [column.strip() for column in next(reader)]
    except (StopIteration, csv.Error):
        columns = []
    if not any(columns):
        raise Invalid(f"{name} needs a header line with column names.")
    named = [column for column in columns if column]
    if twice := next((c for n, c in enumerate(named) if c in named[:n]), None):
        raise Invalid(f"{name} has two columns named {twice[:60]!r}; rename one.")
    return columns


def _row(record: list[str], columns: list[str], separator: str) -> Row | BadLine:
    more = record[len(columns) :]
    if len(record) < len(columns) or any(more):
        shown = {"\t": "tabs"}.get(separator, f"a {separator}")
        return BadLine(
            f"does not have {len(columns)} columns; write a text with {shown} in it in quotes."
        )
    return {
        column or f"column {n}": value
        for n, (column, value) in enumerate(zip(columns, record, strict=False), start=1)
        if column or value
    }


def _records(reader: Iterator[list[str]]) -> Iterator[list[str] | BadLine]:
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadLine(
                f'is not CSV ({error}); write a quote within a text twice (""), and such a text in '
                "quotes."
            )
            return


class _Dialect(csv.excel):
    """A class of its own for each file: `csv` reads its settings from one."""


def _dialect(lines: list[str], separator: str, *, whole: bool) -> type[csv.Dialect]:
    """The separator that gives all records as many fields as the header has; `separator`, if the
    file or its name says one. Between tabs a quote may be a character like others, if
    none surrounds a field. `lines` may end within a record unless they are the whole file."""
    found: list[tuple[tuple[bool, float, int], type[csv.Dialect]]] = []
    for mark in [separator] if separator else _SEPARATORS:
        dialects = [_with(mark, csv.QUOTE_MINIMAL)]
        if mark == "\t" and not _is_quoted(lines, bare := _with(mark, csv.QUOTE_NONE)):
            dialects.append(bare)
        found += [(_fit(lines, dialect, whole=whole), dialect) for dialect in dialects]
    _, best = max(found, key=lambda one: one[0])
    header = next(iter(_parsed(lines, best)[0]), [])
    best.skipinitialspace = len(header) > 1 and all(name.startswith(" ") for name in header[1:])
    return best


def _with(mark: str, quoting: int) -> type[csv.Dialect]:
    return type("_Found", (_Dialect,), {"delimiter": mark, "quoting": quoting})


def _is_quoted(lines: list[str], bare: type[csv.Dialect]) -> bool:
    """Whether a field of the first records, in which a quote is a character, begins and ends with
    one: then the file writes texts in quotes, and a broken one is to be told and not learned."""
    fields = [field.strip() for record in _parsed(lines, bare)[0] for field in record]
    return any(len(field) > 1 and field[0] == field[-1] == '"' for field in fields)


def _fit(lines: list[str], dialect: type[csv.Dialect], *, whole: bool) -> tuple[bool, float, int]:
    """How well the records fit a dialect: whether there are several columns, the share of records
    with as many fields as the header (less where one cannot be read), and how many those are."""
    parsed, problem = _parsed(lines, dialect)
    records = [record for record in parsed if any(record)]
    if not records:
        return False, 0.0, 0
    header = len(records[0])
    if header == 1 and dialect.quoting == csv.QUOTE_NONE:
        return False, 0.0, 0
    wrong = bool(problem) and (whole or "unexpected end" not in problem)
    same = sum(len(record) == header for record in records) / (len(records) + wrong)
    return header > 1, same, header


def _parsed(lines: list[str], dialect: type[csv.Dialect]) -> tuple[list[list[str]], str]:
    """The first records, and what is wrong with the first that is not in this dialect."""
    found: list[list[str]] = []
    try:
        found.extend(islice(csv.reader(lines, dialect=dialect, strict=True), _LOOKED_AT))
    except csv.Error as error:
        return found, str(error)
    return found, ""
