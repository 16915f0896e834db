"""Prefixes on disk, so that they outlive the process.

Each segment is a safetensors file named by its last block, and beside it a JSON file with its
blocks, the block before them, and the checksum. The JSON file is written last: a segment without
one, or that does not match it, is skipped. A separate thread writes and deletes; when it falls
behind, segments are not written.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx

from backends.prefixes import BLOCK, PrefixTree, Segment

_MOST_WAITING = 8  # segments kept in memory until they are written
_NAME = 32  # bytes of a block's name
type Layers = list[tuple[mx.array, mx.array]]


def _lower_priority() -> None:
    """Run the calling thread only when the CPU is otherwise idle: answers come first."""
    with contextlib.suppress(OSError):
        if sys.platform == "darwin":
            os.setpriority(os.PRIO_DARWIN_THREAD, 0, os.PRIO_DARWIN_BG)
        else:  # Linux counts threads as processes here
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


class PrefixFiles:
    """The files of the model called `model` in `folder`, together at most `most_bytes`."""

    def __init__(self, folder: Path, model: bytes, most_bytes: int) -> None:
        self._folder = folder / model.hex()[:32]
        self._folder.mkdir(parents=True, exist_ok=True)
        self._most_bytes = most_bytes
        self._tree: PrefixTree[Path] = PrefixTree(most_bytes, self._drop)
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._index()
        self._thread = threading.Thread(target=self._run, name="prefix-files", daemon=True)
        self._thread.start()

    def held(self, root: bytes, tokens: Sequence[int]) -> int:
        """How many blocks of `tokens` are on disk."""
        return sum(blocks for _, blocks in self._tree.find(root, tokens))

    def read(self, root: bytes, tokens: Sequence[int]) -> Layers:
        """Keys and values of the held prefix of `tokens`, up to the first damaged file."""
        parts: list[tuple[dict[str, mx.array], int]] = []
        for segment, blocks in self._tree.find(root, tokens):
            arrays = _load(segment.content)
            if arrays is None:
                break
            parts.append((arrays, blocks * BLOCK))
        if not parts:
            return []
        joined = {
            name: mx.concatenate([arrays[name][:, :, :n] for arrays, n in parts], axis=2)
            for name in parts[0][0]
        }
        return [(joined[f"{n}.keys"], joined[f"{n}.values"]) for n in range(len(joined) // 2)]

    def keep(
        self, root: bytes, tokens: Sequence[int], token_bytes: int, segment: Segment[Layers]
    ) -> None:
        """Write `segment`, the last one of `tokens` in memory, when there is time."""
        start, stop = segment.first, segment.first + len(segment.names)
        if self._work.qsize() >= _MOST_WAITING or self.held(root, tokens) < start:
            return  # without the block before it, it would never be found

        def write(first: int, end: int) -> Path:
            first, end = first // BLOCK - start, end // BLOCK - start
            names = segment.names[first:end]
            described = {
                "first": start + first,
                "parent": (segment.names[first - 1] if first else _name_before(segment)).hex(),
                "names": b"".join(names).hex(),
            }
            path = self._folder / f"{names[-1].hex()}.safetensors"
            layers = segment.content
            if len(names) < len(segment.names):
                cut = slice(first * BLOCK, end * BLOCK)
                layers = [(k[:, :, cut], v[:, :, cut]) for k, v in layers]
                mx.eval(layers)
            self._work.put(lambda: _save(path, described, layers))
            return path

        self._tree.add(root, tokens[: stop * BLOCK], token_bytes, write)

    def close(self) -> None:
        """Write what is waiting, then end the thread."""
        self._work.put(None)
        self._thread.join()

    def _drop(self, segment: Segment[Path]) -> None:
        path = segment.content
        self._work.put(lambda: _remove(path))

    def _run(self) -> None:
        _lower_priority()
        while (work := self._work.get()) is not None:
            # A full disk, or arrays whose work failed on the device, cost a cache hit, not an answer.
            with contextlib.suppress(OSError, RuntimeError):
                work()

    def _index(self) -> None:
        """Index the files of earlier processes, parents before children, older ones first."""
        found = []
        for note in self._folder.glob("*.json"):
            described = _describe(note)
            path = note.with_suffix(".safetensors")
            if described is None:
                _remove(path)
            else:
                found.append((described["first"], note.stat().st_mtime, path, described))
        known = {path for _, _, path, _ in found}
        for path in self._folder.glob("*.safetensors"):
            if path not in known:
                _remove(path)
        for first, _, path, described in sorted(found, key=lambda one: one[:2]):
            if not self._adopt(first, path, described):
                _remove(path)

    def _adopt(self, first: int, path: Path, described: dict[str, Any]) -> bool:
        joined = bytes.fromhex(described["names"])
        names = [joined[n : n + _NAME] for n in range(0, len(joined), _NAME)]
        place = self._tree.place(bytes.fromhex(described["parent"])) if first else None
        size = described["size"]
        if (first and place is None) or any(self._tree.place(name) for name in names):
            return False
        if self._tree.nbytes + size > self._most_bytes:
            return False
        self._tree.put(Segment(place[0] if place else None, first, names, path, size))
        return True


def _name_before(segment: Segment[Layers]) -> bytes:
    """The name of the block before the segment, empty for the first one."""
    if segment.parent is None:
        return b""
    return segment.parent.names[segment.first - segment.parent.first - 1]


def _save(path: Path, described: dict[str, Any], layers: Layers) -> None:
    arrays = {
        f"{n}.{name}": array
        for n, pair in enumerate(layers)
        for name, array in zip(("keys", "values"), pair, strict=True)
    }
    staged = path.with_suffix(".part.safetensors")
    mx.eval(arrays)  # waits for them, and raises what went wrong, before anything is sealed
    mx.save_safetensors(str(staged), arrays)
    size, checksum = _checksum(staged)
    with staged.open("rb") as file:
        os.fsync(file.fileno())
    staged.replace(path)
    note = path.with_suffix(".json")
    text = json.dumps(described | {"size": size, "checksum": checksum})
    staged_note = path.with_suffix(".part")
    staged_note.write_text(text)
    staged_note.replace(note)


def _remove(path: Path) -> None:
    path.with_suffix(".json").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _describe(note: Path) -> dict[str, Any] | None:
    """The content of the JSON file, or None when it is damaged or the arrays have another size."""
    try:
        described: dict[str, Any] = json.loads(note.read_text())
        bytes.fromhex(described["names"]), bytes.fromhex(described["parent"])
        whole = note.with_suffix(".safetensors").stat().st_size == described["size"]
        return described if whole and isinstance(described["first"], int) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _load(path: Path) -> dict[str, mx.array] | None:
    """The file's arrays, or None when it is missing (so far) or damaged."""
    described = _describe(path.with_suffix(".json"))
    try:
        if described is None or _checksum(path) != (described["size"], described["checksum"]):
            return None
        arrays: Any = mx.load(str(path))
        mx.eval(arrays)
    except (OSError, ValueError, KeyError, RuntimeError):
        return None
    return dict(arrays)


def _checksum(path: Path) -> tuple[int, int]:
    """Length and CRC-32 of a file."""
    size = checksum = 0
    with path.open("rb") as file:
        while piece := file.read(2**20):
            size += len(piece)
            checksum = zlib.crc32(piece, checksum)
    return size, checksum
