"""Reads a file here when it is small, else in a child with limits on memory and time.

The child (`python -m registry.datasets.reading.limited FILE`) reads large files, compressed ones and
Parquet, because a stranger's few bytes can unpack to gigabytes: this process sees finished lines
alone. It is asked on stdin, and answers with an event per line. A last one with what was found says
that all came; else its last line on stderr says in one sentence why.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from backends.mac.limits import limit_memory
from backends.mac.memory import footprint
from registry.datasets.dialects.detection import Kind
from registry.datasets.files import rows, values
from registry.datasets.reading.file import Asked, Event, Found, Reading, Shown
from registry.errors import Invalid

HERE = 1 << 20
"""Bytes of a file, not compressed, that may be read in this process."""

PROCESSOR_S = 3600
MEMORY = 2 << 30  # bytes of address space, pyarrow itself included
_LONGEST_EVENT = 4 * values.LONGEST_LINE + 4096  # bytes; a character has up to four
_AT_ONCE = 256 << 10  # bytes between the processes
_LINE, _SHARE, _PROBLEM, _FOUND, _SHOWN = b"=", b"%", b"!", b".", b"<"


def read(path: Path, asked: Asked) -> Iterator[Event]:
    """The examples and mistakes of a file, and what was found. Raises Invalid when the file as a
    whole cannot be read."""
    small = path.stat().st_size <= HERE and not rows.packing(path)
    if small and rows.kind(path) != ".parquet":
        return Reading(path, asked).events()
    return _in_child(path, asked)


def _in_child(path: Path, asked: Asked) -> Iterator[Event]:
    command = [sys.executable, "-m", "registry.datasets.reading.limited", str(path.absolute())]
    name = asked.name or path.name
    root = Path(__file__).resolve().parents[3]
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        subprocess.Popen(
            command,
            bufsize=_AT_ONCE,
            pipesize=_AT_ONCE,
            cwd=root,
            env={**os.environ, "TMPDIR": scratch},  # goes with it, even if it is killed
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child,
    ):
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            assert child.stderr is not None
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(
                    json.dumps(dataclasses.asdict(dataclasses.replace(asked, name=name))).encode()
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
    shown: Shown | None = None
    for raw in iter(lambda: said.readline(_LONGEST_EVENT), b""):
        if not raw.endswith(b"\n"):
            return  # the child ended while it wrote
        mark, text = raw[:1], raw[1:-1]
        if mark == _LINE:
            yield Event(share, line=text.decode(), shown=shown)
            shown = None
        elif mark == _SHARE:
            share = float(text)
        elif mark == _SHOWN:
            shown = Shown(*json.loads(text))
        elif mark == _PROBLEM:
            yield Event(share, problem=json.loads(text), shown=shown)
            shown = None
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
        if event.shown:
            out.write(_SHOWN + json.dumps(event.shown).encode() + b"\n")
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
    given = json.load(sys.stdin)
    asked = Asked(**given | {"kind": _kind(given["kind"])})
    too_much = f"{asked.name} needs more than {MEMORY >> 30} GB of memory to read."
    limit_memory(MEMORY, too_much, footprint)
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_S, PROCESSOR_S))
    try:
        with open(sys.stdout.fileno(), "wb", _AT_ONCE, closefd=False) as out:
            _write(Reading(path, asked).events(), out)
    except MemoryError:
        print(too_much, file=sys.stderr)
        return 1
    except (Invalid, OSError) as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
