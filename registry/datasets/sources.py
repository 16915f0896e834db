"""Rows of a data set's files as they come: JSON lines, Parquet or CSV, one at a time.

Knows files and nothing of what an example should hold. However large a file is, only a batch of
its rows is in memory.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from registry.errors import Invalid

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".tsv")
_LONGEST_LINE = 16 << 20  # bytes
_SNIFFED = 64 << 10  # characters from which the shape of a CSV file is guessed

type Row = dict[str, Any]
type Tick = Callable[[float], None]
"""Called with the share of a file that is read, 0 to 1."""


class BadLine(ValueError):
    """What is wrong with one example, without saying where."""


def rows(path: Path, tick: Tick = lambda _: None) -> Iterator[tuple[int, Row | str | BadLine]]:
    """(line, row) of every row of `path` that is not blank; a JSON line comes as its text.

    What is no row at all comes as a BadLine in its place. Raises Invalid when the file as a whole
    cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet(path, tick)
    if suffix in (".csv", ".tsv"):
        return _csv(path, tick)
    return _json_lines(path, tick)


def parse(line: str) -> Row:
    """The JSON object on one line. Raises BadLine."""
    try:
        value = json.loads(line, parse_constant=_no_constant)
        dump(value).encode()
    except BadLine:
        raise
    except json.JSONDecodeError as error:
        raise BadLine(f"is not JSON ({error.msg} at column {error.colno}).") from None
    except UnicodeEncodeError:
        raise BadLine("holds half of a surrogate pair, which is not a character.") from None
    except RecursionError:
        raise BadLine("is nested too deeply.") from None
    except ValueError:  # a whole number of more digits than Python reads
        raise BadLine("holds a number that is too long.") from None
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


# ---------------------------------------------------------------- JSON lines


def _json_lines(path: Path, tick: Tick) -> Iterator[tuple[int, str | BadLine]]:
    size = path.stat().st_size or 1
    done = 0
    with path.open("rb") as file:
        for number, raw in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), start=1):
            done += len(raw)
            tick(done / size)
            if len(raw) == _LONGEST_LINE:
                yield number, BadLine(f"the line is longer than {_LONGEST_LINE >> 20} MiB.")
                return
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError:
                yield number, BadLine("the text is not UTF-8.")
                continue
            if line:
                yield number, line


# ---------------------------------------------------------------- Parquet


def _parquet(path: Path, tick: Tick) -> Iterator[tuple[int, Row | BadLine]]:
    """Read in a process of its own, with limits (`registry.datasets.parquet`)."""
    command = [sys.executable, "-m", "registry.datasets.parquet", str(path.absolute())]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        try:
            assert child.stdout is not None
            for number, raw in enumerate(
                iter(lambda: child.stdout.readline(_LONGEST_LINE), b""),  # type: ignore[union-attr]
                start=1,
            ):
                if len(raw) == _LONGEST_LINE:
                    yield number, BadLine(f"the row is longer than {_LONGEST_LINE >> 20} MiB.")
                    return
                share, row = json.loads(raw)
                if row is None:
                    return
                tick(share)
                yield number, row
            assert child.stderr is not None
            raise Invalid(_why(child.stderr.read(), path, child.wait()))
        finally:
            child.kill()


def _why(said: bytes, path: Path, status: int) -> str:
    """The last line of what a reading process wrote before it failed."""
    lines = said.decode("utf-8", "replace").strip().splitlines()
    if status > 0 and lines and lines[-1].startswith(path.name):
        return lines[-1]
    return f"{path.name} could not be read: it needs too much memory or time."


# ---------------------------------------------------------------- CSV


def _csv(path: Path, tick: Tick) -> Iterator[tuple[int, Row | BadLine]]:
    size = path.stat().st_size or 1
    csv.field_size_limit(_LONGEST_LINE)
    try:
        with (
            path.open("rb") as raw,
            io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file,
        ):
            reader = csv.DictReader(file, dialect=_dialect(file, path), strict=True)
            columns = reader.fieldnames or []
            if not any(columns):
                raise Invalid(f"{path.name} needs a header line with column names.")
            for row in _records(reader):
                tick(raw.tell() / size)
                if isinstance(row, BadLine):
                    yield reader.line_num, row
                elif None in row or None in row.values():
                    yield reader.line_num, BadLine(f"does not have {len(columns)} columns.")
                else:
                    yield reader.line_num, row
    except UnicodeDecodeError:
        raise Invalid(f"{path.name} is not UTF-8 text; save it as UTF-8.") from None


def _records(reader: csv.DictReader[str]) -> Iterator[dict[Any, Any] | BadLine]:
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadLine(f"is not CSV ({error}).")
            return


def _dialect(file: IO[str], path: Path) -> type[csv.Dialect] | str:
    """Commas, semicolons or tabs, by the first lines. Raises Invalid for a file without text."""
    start = file.read(_SNIFFED)
    file.seek(0)
    if not start.strip():
        raise Invalid(f"{path.name} holds no example.")
    header = start.splitlines()[0]
    separator = max((",", ";", "\t", "|"), key=header.count)

    class Found(csv.excel):
        delimiter = "\t" if path.suffix.lower() == ".tsv" else separator

    return Found
