"""Check the files of a model folder before anything is loaded.

Headers are read, tensors never: format at https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import errno
import json
import os
import struct
from math import prod
from pathlib import Path
from typing import Any

from backends.base import UnsupportedModel
from backends.mlx.files.config import read_json

_LONGEST_HEADER = 16 << 20  # bytes: 100,000 tensors; parsed, they take thirty times as much
_MOST_DIMENSIONS = 8
_MOST_FILES, _MOST_PARTS = 10_000, 1000
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 8),
}
INDEX = "model.safetensors.index.json"


def refuse_strangers(folder: Path) -> None:
    """Raises UnsupportedModel for what is neither a file nor a folder, such as a pipe, whose reader
    waits forever, and for a link that leads nowhere or out of the folder.

    A download cache of the model hub keeps its files as links into the folder beside it
    (`snapshots/REVISION/…` → `blobs/…`), so the cache's own root counts as inside.
    """
    root = folder.resolve()
    if root.parent.name == "snapshots" and (root.parent.parent / "blobs").is_dir():
        root = root.parent.parent
    for number, path in enumerate(folder.rglob("*")):
        if number == _MOST_FILES:
            raise UnsupportedModel(f"{folder.name} is no model folder: it has over {number} files.")
        # Unlike `resolve`, it takes a link to itself.
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
            raise UnsupportedModel(
                f"{folder.name} contains a link ({path.name}) that leads out of the folder, which is "
                "not allowed; copy the file into the folder instead."
            )
        if not path.is_file() and not path.is_dir():
            what = "a link that leads nowhere" if path.is_symlink() else "no file"
            raise UnsupportedModel(f"{path.name} in {folder.name} is {what}; copy the model again.")


def refuse_holes(path: Path) -> None:
    """Raises UnsupportedModel for a file that was given its length but never its content, as
    interrupted downloads leave it: copied, its terabytes of nothing would fill the disk."""
    size = path.stat().st_size
    with path.open("rb") as file:
        at = content = 0
        for _ in range(_MOST_PARTS):
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
                at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            except OSError as error:
                if error.errno != errno.ENXIO:  # the file system does not say
                    return
                break
            content += at - start
        else:
            return
    if content < size // 2:
        raise _damaged(path, f"only {content} of its {size} bytes were ever written")


def read_header(path: Path) -> dict[str, Any]:
    """The tensors' entries by name, after every number was checked against the file's size."""
    refuse_holes(path)
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _LONGEST_HEADER):
                raise _damaged(path, "its header is longer than the file or the format allows")
            header: Any = json.loads(file.read(length), object_pairs_hook=_once)
        if not isinstance(header, dict):
            raise ValueError
        header.pop("__metadata__", None)
        spans = sorted(_span(path, name, entry) for name, entry in header.items())
    except (struct.error, ValueError, KeyError, TypeError, RecursionError):
        raise UnsupportedModel(f"{path.name} is not a safetensors file.") from None
    _check_spans(path, spans, size - 8 - length)
    return header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without duplicate names: readers would disagree which one counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _span(path: Path, name: str, entry: Any) -> tuple[int, int, str]:
    """(begin, end, name) of a tensor whose length is what its type and shape need."""
    dtype, shape = entry["dtype"], entry["shape"]
    begin, end = entry["data_offsets"]
    if dtype not in _BITS:
        raise _damaged(path, f"{name} is of the unknown type {dtype!r}")
    if len(shape) > _MOST_DIMENSIONS:
        raise _damaged(path, f"{name} has {len(shape)} dimensions")
    if not all(type(n) is int and 0 <= n < 1 << 62 for n in (*shape, begin, end)):
        raise _damaged(path, f"the shape or place of {name} is not a whole number")
    if end - begin != prod(shape) * _BITS[dtype] // 8:
        raise _damaged(path, f"{name} has a length that does not match its shape")
    return begin, end, name


def _check_spans(path: Path, spans: list[tuple[int, int, str]], available: int) -> None:
    """The tensors lie end to end and fill the file."""
    at = 0
    for begin, end, name in spans:
        if begin < at:
            raise _damaged(path, f"{name} overlaps the tensor before it")
        if begin > at:
            raise _damaged(path, f"there is a gap before {name}")
        if end > available:
            raise UnsupportedModel(
                f"{path.name} is truncated: {name} ends beyond the file. Copy it again."
            )
        at = end
    if at != available:
        raise _damaged(path, "bytes after the last tensor belong to none")


def check_index(folder: Path, names: dict[str, set[str]]) -> None:
    """Raises UnsupportedModel unless the index matches the files of this folder. `names` is tensors by
    file."""
    path = folder / INDEX
    if not path.is_file():
        return
    try:
        entries = dict(read_json(path).get("weight_map", ())).items()
    except (ValueError, TypeError):
        raise UnsupportedModel(f"{INDEX} is not readable.") from None
    for tensor, file in entries:
        if not isinstance(file, str) or Path(file).name != file or "\\" in file:
            raise UnsupportedModel(f"{INDEX} names a path outside the folder ({file!r}).")
        if file not in names:
            raise UnsupportedModel(f"{INDEX} names {file}, which is missing.")
        if tensor not in names[file]:
            raise UnsupportedModel(f"{INDEX} lists {tensor} in {file}, which does not contain it.")


def _damaged(path: Path, reason: str) -> UnsupportedModel:
    return UnsupportedModel(f"{path.name} is damaged: {reason}.")
