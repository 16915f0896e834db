"""A file of examples through a tokenizer, piece by piece: small files here, large ones in several
processes at once (`python -m backends.mlx.data.tokenizing`), because rendering holds Python's lock.

Such a process reads from stdin where each piece is, and answers with a line of JSON and the columns'
bytes. It ends when stdin does, so it never outlives who started it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, cast

import numpy as np

from backends import devices
from backends.base import BadExample, TrainingConfig, UnsupportedModel, first_line
from backends.examples import reason
from backends.mlx.data.columns import TYPES, Columns, Item, Writer
from backends.mlx.data.examples import Example
from backends.mlx.data.preferences import Labelled, Pair
from backends.mlx.device import prepare

PIECE = 1 << 19  # bytes of examples: some seconds of work
HERE = 4 << 20
"""Bytes of a file that is tokenized in this process: others take seconds to start."""
_MOST = 8  # processes, of some 170 MB each
_WAIT_S = 1.0  # between two signs of life
_ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Piece:
    """Whole lines of a file."""

    begin: int  # bytes
    size: int
    line: int  # of its first line, from 1
    lines: int


def kind_of(config: TrainingConfig) -> type[Item]:
    """What a line becomes, by the objective."""
    kinds = {"sft": Example, "kto": Labelled}
    return cast(type[Item], kinds.get(config.objective, Pair))


def tokenize(
    path: Path, base: Path, tokenizer: Any, config: TrainingConfig, writer: Writer
) -> Generator[tuple[int, int], None, None]:
    """Put the examples of the JSON-lines file `path` into `writer`, in order; `tokenizer` is that of
    the model folder `base`. Yields (lines done, all) from time to time, also while nothing was done.

    Raises BadExample, which names the file and its first bad line.
    """
    pieces = list(_pieces(path))
    lines = sum(piece.lines for piece in pieces)
    size = sum(piece.size for piece in pieces)
    processes = 0 if size <= HERE else min(_MOST, devices.threads(), len(pieces))
    done = 0
    narrow = is_narrow(tokenizer)
    if processes < 2:
        for piece in pieces:
            if done:
                yield done, lines
            writer.add(_columns(path, piece, tokenizer, config, narrow=narrow))
            done += piece.lines
        return
    with _Processes(path, base, config, processes) as others:
        for piece, columns in others.work(pieces):
            if columns is not None:
                writer.add(columns)
                done += piece.lines
            yield done, lines


def is_narrow(tokenizer: Any) -> bool:
    """Whether all tokens fit into 16 bits."""
    return max(tokenizer.get_vocab().values(), default=0) < 1 << 16


def _pieces(path: Path) -> Iterator[Piece]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise BadExample(f"The data set has no {path.name}.") from None
    with file:
        begin, line = 0, 1
        while block := file.read(PIECE):
            block += file.readline()  # to the end of its last line
            lines = block.count(b"\n") + (not block.endswith(b"\n"))
            yield Piece(begin, len(block), line, lines)
            begin, line = begin + len(block), line + lines


def _columns(
    path: Path, piece: Piece, tokenizer: Any, config: TrainingConfig, *, narrow: bool
) -> Columns:
    """Raises BadExample."""
    kind = kind_of(config)
    with path.open("rb") as file:
        file.seek(piece.begin)
        content = file.read(piece.size)
    try:
        texts = content.decode().split("\n")
    except UnicodeDecodeError:
        raise BadExample(f"{path.name} is not UTF-8 text.") from None
    items: list[Item] = []
    for number, text in enumerate(texts, start=piece.line):
        if not text.strip():
            continue
        try:
            items.extend(kind.read(json.loads(text), number, tokenizer, config))
        except (ValueError, TypeError, KeyError) as error:
            raise BadExample(f"{path.name}, line {number}: {reason(error)}.") from None
    return Columns.of(items, narrow=narrow)


# ---------------------------------------------------------------- other processes


class _Processes:
    """Processes that tokenize pieces of one file, each driven by a thread of this one."""

    def __init__(self, path: Path, base: Path, config: TrainingConfig, count: int) -> None:
        asked = {
            "path": str(path.absolute()),
            "base": str(base.absolute()),
            "config": config.model_dump(mode="json"),
        }
        self._asked = json.dumps(asked)
        self._threads = ThreadPoolExecutor(count, "tokenizing")
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        self._all = [self._start() for _ in range(count)]

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._all:
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._all:
            with suppress(OSError):
                process.communicate()
            process.wait()

    def work(self, pieces: list[Piece]) -> Iterator[tuple[Piece, Columns | None]]:
        """Each piece with its columns, in order; the next one without them once a second while it is
        not done. No more are started than the caller takes."""
        waiting = deque(pieces)
        started: deque[tuple[Piece, Future[Columns]]] = deque()
        while waiting or started:
            while waiting and len(started) < len(self._all) + 1:
                piece = waiting.popleft()
                started.append((piece, self._threads.submit(self._tokenized, piece)))
            piece, future = started[0]
            try:
                columns = future.result(_WAIT_S)
            except TimeoutError:
                yield piece, None
                continue
            started.popleft()
            yield piece, columns

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "backends.mlx.data.tokenizing", self._asked],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
        )
        self._idle.put(process)
        return process

    def _tokenized(self, piece: Piece) -> Columns:
        process = self._idle.get()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(asdict(piece)).encode() + b"\n")
            process.stdin.flush()
            said = json.loads(process.stdout.readline())
            if "error" not in said:
                return _received(said, process.stdout)
        except (BrokenPipeError, ValueError):
            raise RuntimeError("A process that tokenizes examples died.") from None
        finally:
            self._idle.put(process)
        raise BadExample(said["error"])


def _received(said: dict[str, Any], file: IO[bytes]) -> Columns:
    held = {}
    for name, (kind, size) in said["columns"].items():
        held[name] = np.frombuffer(file.read(size), kind)
        if held[name].nbytes != size:
            raise ValueError("cut short")
    return Columns(held, said["notes"])


def main(asked: dict[str, Any]) -> None:
    """See the module."""
    path, base = Path(asked["path"]), Path(asked["base"])
    config = TrainingConfig.model_validate(asked["config"])
    tokenizer = open_tokenizer(base)
    narrow = is_narrow(tokenizer)
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        for line in sys.stdin:
            try:
                columns = _columns(
                    path, Piece(**json.loads(line)), tokenizer, config, narrow=narrow
                )
            except BadExample as error:
                out.write(json.dumps({"error": str(error)}).encode() + b"\n")
            else:
                sizes = {name: (c.dtype.str, c.nbytes) for name, c in columns.held.items()}
                said = {"columns": sizes, "notes": dict(columns.notes)}
                out.write(json.dumps(said).encode() + b"\n")
                for name in TYPES:
                    out.write(columns.held[name].tobytes())
            out.flush()


def open_tokenizer(base: Path) -> Any:
    """The tokenizer of a model folder, as training has it. Raises UnsupportedModel."""
    prepare()
    from mlx_lm.utils import load_tokenizer

    load: Any = load_tokenizer  # untyped upstream
    try:
        ends = json.loads((base / "config.json").read_text()).get("eos_token_id")
        return load(base, {"trust_remote_code": False}, eos_token_ids=ends)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnsupportedModel(
            f"The tokenizer of {base.name} cannot be read: {first_line(error)}"
        ) from None


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
