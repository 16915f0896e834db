"""The examples of one file: rows read, their dialect found, their mistakes in words.

Large files, compressed ones and Parquet are read by a child with limits on memory and time
(`python -m registry.datasets.reading FILE`), because a stranger's few bytes can unpack to
gigabytes: this process sees finished lines alone. Neither knows Django.

The child is asked on stdin, and answers with an event per line. A last one with what was found says
that all came; else its last line on stderr says in one sentence why.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from registry.datasets.dialects import Dialect, Unused, canonical
from registry.datasets.dialects.detection import LOOKED_AT, Example, Kind, decide, fitted
from registry.datasets.files import rows, values
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import FIELDS, Format
from registry.errors import Invalid

HERE = 1 << 20
"""Bytes of a file, not compressed, that may be read in this process."""

PROCESSOR_S = 3600
MEMORY = 2 << 30  # bytes of address space, pyarrow itself included
_PARTS = 500_000
"""Lists and objects of an example; each takes some 60 bytes where a page shows it."""
_LOOKED_AT_BYTES = 8 << 20
_TOO_LONG = f"{values.LONGEST_LINE >> 20} MiB."
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_LONGEST_EVENT = 4 * values.LONGEST_LINE + 4096  # bytes; a character has up to four
_AT_ONCE = 256 << 10  # bytes between the processes
_LINE, _SHARE, _PROBLEM, _FOUND = b"=", b"%", b"!", b"."


@dataclass(frozen=True)
class Asked:
    """How to read a file: mapped columns, what the examples before were, and what errors call it."""

    columns: Mapping[str, str] = field(default_factory=dict)
    kind: Kind | None = None
    name: str = ""


@dataclass(frozen=True)
class Found:
    """What a file held: the kind of its examples and of those before; dialects with the fields
    that their rows had; columns and fields that nothing reads; whether tools are used."""

    kind: Kind | None
    dialects: dict[str, list[str]]
    unused: list[str]
    tools: bool


class Event(NamedTuple):
    """An example as a line of JSON, a mistake with its place, or at the end what was found; and
    the share of the file that is read."""

    share: float
    line: str | None = None
    problem: str | None = None
    found: Found | None = None


def read(path: Path, asked: Asked) -> Iterator[Event]:
    """The examples and mistakes of a file, and what was found. Raises Invalid when the file as a
    whole cannot be read."""
    small = path.stat().st_size <= HERE and not rows.packing(path)
    if small and rows.kind(path) != ".parquet":
        return _Reading(path, asked).events()
    return _in_child(path, asked)


class _Read(NamedTuple):
    """An example, and the line that it is unless the data set makes it another kind."""

    example: Example
    line: str


class _Reading:
    """Reads one file in this process."""

    def __init__(self, path: Path, asked: Asked) -> None:
        self.path, self.asked = path, asked
        self.kind = asked.kind
        self.share = 0.0
        self.tools = False
        self.unused = Unused()
        self.dialects: dict[str, tuple[Dialect, set[str]]] = {}

    def events(self) -> Iterator[Event]:
        given = rows.rows(self.path, self._tick, self.unused.add, self.asked.name)
        read = (self._read(place, row) for place, row in given)
        first = [] if self.kind else list(_first(read))
        if examples := [item.example for _, item in first if isinstance(item, _Read)]:
            self.kind = decide(examples)
        for place, item in chain(first, read):
            if self.kind is None and isinstance(item, _Read):
                self.kind = decide([item.example])
            event = self._event(place, item)
            yield event
            if event.problem and event.problem.endswith(_TOO_LONG):
                break
        yield Event(1.0, found=self._found())

    def _tick(self, share: float) -> None:
        self.share = share

    def _read(self, place: str, row: Row | str | BadLine) -> tuple[str, _Read | BadLine]:
        try:
            if isinstance(row, BadLine):
                raise row
            given = values.parse(row) if isinstance(row, str) else row
            dialect, format, example = canonical(given, self.asked.columns, self.unused)
            same = isinstance(row, str) and example is given
            line = row if isinstance(row, str) and same else _dump(format, example)
        except BadLine as error:
            return place, error
        except RecursionError:
            return place, BadLine("is nested too deeply.")
        self._see(dialect, given)
        return place, _Read(Example(dialect.paired, format, example), line)

    def _see(self, dialect: Dialect, given: Row) -> None:
        """Note which of the dialect's fields a row has."""
        if dialect.name not in self.dialects:
            self.dialects[dialect.name] = (dialect, set())
        _, seen = self.dialects[dialect.name]
        if columns := self.asked.columns:
            given = {key: given[column] for key, column in columns.items()}
        for key in (given.keys() & dialect.known) - seen:
            if given[key] not in _NOTHING:
                seen.add(key)

    def _event(self, place: str, item: _Read | BadLine) -> Event:
        try:
            if isinstance(item, BadLine):
                raise item
            assert self.kind is not None
            row = fitted(item.example, self.kind)
            line = item.line if row is item.example.row else _dump(self.kind.format, row)
            if len(line) > values.LONGEST_LINE:
                raise BadLine(f"is longer than {_TOO_LONG}")
            if len(line) > HERE and line.count("[") + line.count("{") > _PARTS:
                raise BadLine(f"holds more than {_PARTS:,} lists and objects.")
        except BadLine as error:
            return Event(self.share, problem=f"{place}: {error}")
        self.tools |= item.example.format == "tools"
        return Event(self.share, line=line)

    def _found(self) -> Found:
        return Found(
            self.kind,
            {
                name: [key for key in dialect.fields if key in fields]
                for name, (dialect, fields) in self.dialects.items()
            },
            list(self.unused),
            self.tools,
        )


def _first(
    read: Iterator[tuple[str, _Read | BadLine]],
) -> Iterator[tuple[str, _Read | BadLine]]:
    """The rows by which the kind is decided: a hundred, or fewer when they are long."""
    size = 0
    for place, item in islice(read, LOOKED_AT):
        yield place, item
        size += len(item.line) if isinstance(item, _Read) else 0
        if size > _LOOKED_AT_BYTES:
            return


def _dump(format: Format, example: Row) -> str:
    """As JSON. What no training reads may hold what JSON cannot say, and is left out then."""
    try:
        line = values.dump(example)
        line.encode()
    except (BadLine, UnicodeEncodeError):
        kept = {key: example[key] for key in FIELDS[format] if key in example}
        line = values.dump(values.checked(kept))
    return line


# ---------------------------------------------------------------- the child


def _in_child(path: Path, asked: Asked) -> Iterator[Event]:
    command = [sys.executable, "-m", "registry.datasets.reading", str(path.absolute())]
    name = asked.name or path.name
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        command,
        bufsize=_AT_ONCE,
        pipesize=_AT_ONCE,
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            assert child.stderr is not None
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(
                    json.dumps(dataclasses.asdict(replace(asked, name=name))).encode()
                )
                child.stdin.close()
            for event in _events(child.stdout):
                yield event
                if event.found:
                    return
            raise Invalid(_why(child.stderr.read(), name, child.wait()))
        finally:
            child.kill()


def _events(said: IO[bytes]) -> Iterator[Event]:
    """What the child writes: a mark, and a line of JSON or of the example as it is."""
    share = 0.0
    for raw in iter(lambda: said.readline(_LONGEST_EVENT), b""):
        if not raw.endswith(b"\n"):
            return  # the child ended while it wrote
        mark, text = raw[:1], raw[1:-1]
        if mark == _LINE:
            yield Event(share, line=text.decode())
        elif mark == _SHARE:
            share = float(text)
        elif mark == _PROBLEM:
            yield Event(share, problem=json.loads(text))
        else:
            found = json.loads(text)
            yield Event(1.0, found=Found(**found | {"kind": _kind(found["kind"])}))


def _write(events: Iterator[Event], out: IO[bytes]) -> None:
    """See `_events`."""
    share = 0.0
    for event in events:
        if event.share - share >= 0.001:
            share = event.share
            out.write(_SHARE + str(share).encode() + b"\n")
        if event.line is not None:
            out.write(_LINE + event.line.encode() + b"\n")
        elif event.found:
            out.write(_FOUND + json.dumps(dataclasses.asdict(event.found)).encode() + b"\n")
        else:
            out.write(_PROBLEM + json.dumps(event.problem).encode() + b"\n")


def _kind(said: dict[str, Any] | None) -> Kind | None:
    return Kind(**said) if said else None


def _why(said: bytes, name: str, status: int) -> str:
    """The last line of what a reading process wrote before it failed."""
    lines = said.decode("utf-8", "replace").strip().splitlines()
    if status > 0 and lines and lines[-1].startswith(name):
        return lines[-1]
    return f"{name} could not be read: it needs too much memory or time."


def main(path: Path) -> int:
    """Reads a file as stdin asks, and writes its events to stdout."""
    with contextlib.suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_S, PROCESSOR_S))
    given = json.load(sys.stdin)
    asked = Asked(**given | {"kind": _kind(given["kind"])})
    try:
        with open(sys.stdout.fileno(), "wb", _AT_ONCE, closefd=False) as out:
            _write(_Reading(path, asked).events(), out)
    except MemoryError:
        print(f"{asked.name} needs more than {MEMORY >> 30} GB of memory to read.", file=sys.stderr)
        return 1
    except (Invalid, OSError) as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
