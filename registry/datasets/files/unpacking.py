"""A file's bytes, unpacked while they are read if it is compressed, with a bound on how many."""

from __future__ import annotations

import codecs
import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from registry.errors import Invalid

PACKINGS = {".gz": "gzip", ".zst": "zstd"}
RATIO = 200
"""A compressed file may unpack to this many times its size; real text reaches 3 to 30 times."""
FREE = 64 << 20
"""Bytes to which any file may unpack."""

_RATIO_OF_FILES = 20
"""The same of a file that is written to the disk, and that is compressed within already."""
START = 64 << 10
"""Bytes by which the shape of a file is guessed."""


class Input(io.BufferedReader):
    """A file's bytes, and how much of it was read."""

    def __init__(self, raw: _Bytes) -> None:
        super().__init__(raw, START)
        self._bytes = raw

    def start(self) -> bytes:
        """The first bytes, which are read again afterwards."""
        return self.peek(START)[:START]

    def share(self) -> float:
        """How much of the file was read, 0 to 1."""
        return self._bytes.share(self)


def opened(path: Path, packing: str, name: str) -> Input:
    """The text file, unpacked when `packing` is one of PACKINGS, in UTF-8 when it is UTF-16 with a
    mark of it. Reading raises Invalid for what is not compressed so, ends too early, or unpacks to
    more than it may."""
    return Input(_Bytes(path, packing, name, text=True))


@contextmanager
def unpacked(path: Path, packing: str, name: str) -> Iterator[Path]:
    """The file itself, or a temporary one with what it unpacks to, for readers that seek in it.
    Raises what reading `opened` raises."""
    if not packing:
        yield path
        return
    with tempfile.NamedTemporaryFile() as whole:
        with _Bytes(path, packing, name, ratio=_RATIO_OF_FILES) as raw:
            shutil.copyfileobj(raw, whole)
        whole.flush()
        yield Path(whole.name)


class _Bytes(io.RawIOBase):
    def __init__(
        self, path: Path, packing: str, name: str, ratio: int = RATIO, *, text: bool = False
    ) -> None:
        self._name, self._packing = name, packing
        self._size = path.stat().st_size or 1
        self._ratio = ratio
        self._most = max(FREE, ratio * self._size)
        self._file = path.open("rb")
        self._unpacked: Any = self._file
        self._read = 0
        self._decoder: codecs.IncrementalDecoder | None = None
        self._left = b""
        if packing == ".gz":
            self._unpacked = gzip.GzipFile(fileobj=self._file)
        elif packing == ".zst":
            import pyarrow as pa

            self._unpacked = pa.CompressedInputStream(pa.PythonFile(self._file, "r"), "zstd")
        if text:
            self._left = self._piece(2)
            if self._left in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                self._decoder = codecs.getincrementaldecoder("utf-16")()
                self._decoder.decode(self._left)
                self._left = b""

    def share(self, buffered: Input) -> float:
        done = self._file.tell() if self._packing else buffered.tell()
        return min(1.0, done / self._size)

    def tell(self) -> int:
        return self._read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the whole buffer unless the file ends before."""
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view):
            piece = self._next(len(view) - done)
            if not piece:
                break
            view[done : done + len(piece)] = piece
            done += len(piece)
        self._read += done
        if self._packing and self._read > self._most:
            raise Invalid(
                f"{self._name} unpacks to more than {self._ratio} times its size and is not read; "
                "unpack it yourself and send what it holds."
            )
        return done

    def _next(self, size: int) -> bytes:
        """At most `size` bytes, in UTF-8 for a text."""
        if not self._left:
            self._left = self._piece(size)
            if self._decoder is not None:
                self._left = self._decoded(self._left)
        piece, self._left = self._left[:size], self._left[size:]
        return piece

    def _decoded(self, piece: bytes) -> bytes:
        """A piece of UTF-16 as UTF-8, with more of it where it ends within a character."""
        assert self._decoder is not None
        try:
            while piece:
                if text := self._decoder.decode(piece):
                    return text.encode()
                piece = self._piece(2)
            return self._decoder.decode(b"", final=True).encode()
        except (UnicodeDecodeError, UnicodeEncodeError):
            raise Invalid(
                f"{self._name} is not the UTF-16 text that it begins as; save it as UTF-8."
            ) from None

    def _piece(self, size: int) -> bytes:
        try:
            piece: bytes = self._unpacked.read(size)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            if not self._packing:
                raise
            reason = (str(error).splitlines() or ["unreadable"])[0]
            raise Invalid(
                f"{self._name} is not a readable {PACKINGS[self._packing]} file ({reason})."
            ) from None
        return piece

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
