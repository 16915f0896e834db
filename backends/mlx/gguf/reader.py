"""Read GGUF files: header, metadata and tensors, each checked before it is used.

This module knows the file format alone, neither MLX nor any model. MLX has a reader too, but
it maps the file without checking sizes, so a truncated download crashes the process.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.base import UnsupportedModel
from backends.mlx.gguf.quants import BLOCKS, Packed, dequantize, repack

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # fmt: skip
_STRING, _ARRAY = 8, 9
# More than any real file has: entries of a table, values in all arrays, bytes of the header.
_MOST_ENTRIES, _MOST_VALUES, _LONGEST_HEADER = 1 << 17, 1 << 22, 1 << 27


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies. `shape` is row-major (GGUF stores it reversed)."""

    shape: tuple[int, ...]
    kind: str  # a key of BLOCKS
    start: int  # bytes from the start of the file
    nbytes: int


class GGUFFile:
    """An open GGUF file. Raises UnsupportedModel with one sentence for anything unreadable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        try:
            self._bytes = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            self._file.close()
            raise UnsupportedModel(f"{path.name} is empty.") from None
        try:
            self._parse()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._bytes.close()
        self._file.close()

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def tensor(self, name: str) -> NDArray[np.float32]:
        """The tensor `name`, dequantized, in its row-major shape."""
        info = self.tensors[name]
        return dequantize(self._raw(info), info.kind).reshape(info.shape)

    def packed(self, name: str) -> Packed | None:
        """The tensor `name` as MLX quantizes, if that is what it is; see `repack`."""
        info = self.tensors[name]
        return repack(self._raw(info), info.kind)

    def _raw(self, info: TensorInfo) -> NDArray[np.uint8]:
        return np.frombuffer(self._bytes[info.start : info.start + info.nbytes], dtype=np.uint8)

    # ---------------------------------------------------------------- parsing

    def _parse(self) -> None:
        if self._bytes[:4] != b"GGUF":
            raise UnsupportedModel(f"{self.path.name} is not a GGUF file.")
        self._at = 4
        try:
            version, tensors, entries = self._unpack("<IQQ")
            if version not in (2, 3):
                raise UnsupportedModel(
                    f"{self.path.name} has GGUF version {version}; versions 2 and 3 can be read."
                )
            if max(tensors, entries) > _MOST_ENTRIES:
                raise self._damaged("its header has an absurd number of entries")
            self._values_left = _MOST_VALUES
            self.metadata = dict(self._entry() for _ in range(entries))
            infos = [self._tensor_info() for _ in range(tensors)]
        except (struct.error, UnicodeDecodeError, OverflowError, RecursionError):
            raise self._damaged("its header ends early or is nonsense") from None
        self.tensors = dict(self._place(*info) for info in infos)
        self._check_spans()

    def _damaged(self, why: str) -> UnsupportedModel:
        return UnsupportedModel(f"{self.path.name} is damaged: {why}; download it again.")

    def _unpack(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(form, self._bytes, self._at)
        self._advance(struct.calcsize(form))
        return values

    def _advance(self, length: int) -> None:
        self._at += length
        if self._at > _LONGEST_HEADER:
            raise self._damaged("its header does not end")

    def _string(self) -> str:
        (length,) = self._unpack("<Q")
        if length > len(self._bytes) - self._at:
            raise struct.error("string past the end")
        start = self._at
        self._advance(length)
        return self._bytes[start : self._at].decode("utf-8")

    def _entry(self) -> tuple[str, Any]:
        key = self._string()
        (kind,) = self._unpack("<I")
        return key, self._value(kind)

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self._unpack("<" + _SCALARS[kind])[0]
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            raise self._damaged(f"its metadata has the unknown type {kind}")
        item, count = self._unpack("<IQ")
        self._values_left -= count
        if self._values_left < 0:
            raise self._damaged("its header has an absurd number of entries")
        if item in _SCALARS:
            return list(self._unpack(f"<{count}{_SCALARS[item]}"))
        return [self._value(item) for _ in range(count)]

    def _tensor_info(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        (dims,) = self._unpack("<I")
        if dims > 4:
            raise self._damaged(f"the tensor {name} has {dims} dimensions")
        shape = tuple(reversed(self._unpack(f"<{dims}Q")))
        kind, offset = self._unpack("<IQ")
        return name, shape, kind, offset

    def _place(
        self, name: str, shape: tuple[int, ...], kind: int, offset: int
    ) -> tuple[str, TensorInfo]:
        block = BLOCKS.get(kind)
        if block is None:
            raise UnsupportedModel(
                f"{self.path.name} stores {name} in the tensor type {kind}, which cannot be "
                f"read; use a file with {', '.join(b.name for b in BLOCKS.values())}."
            )
        if not shape or shape[-1] % block.size or prod(shape) == 0:
            raise self._damaged(f"the tensor {name} has the impossible shape {shape}")
        alignment = self.metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1:
            raise self._damaged("its alignment is not a number of bytes")
        start = -(-self._at // alignment) * alignment + offset
        nbytes = prod(shape) // block.size * block.nbytes
        if start + nbytes > len(self._bytes):
            raise self._damaged(f"the tensor {name} is past its end")
        return name, TensorInfo(shape, block.name, start, nbytes)

    def _check_spans(self) -> None:
        """Each tensor has bytes of its own: shared ones could unpack to any size."""
        end = 0
        for name, info in sorted(self.tensors.items(), key=lambda item: item[1].start):
            if info.start < end:
                raise self._damaged(f"the tensor {name} overlaps the one before it")
            end = info.start + info.nbytes
