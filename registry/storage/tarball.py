"""A tar file with exactly one way to write it, so that no byte of it can change unseen.

Entries are plain files with fixed owner, time and mode; every header read is compared with the
one that would have been written, and nothing may follow the two empty blocks at the end. Nothing
is compressed: what is read is never larger than the file.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from registry.errors import Damaged, Invalid

_CHUNK = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
END = b"\0" * (2 * _BLOCK)
_NAME = re.compile(r"([a-z]+/)?[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def header(name: str, size: int) -> bytes:
    """The 512 bytes before a file of that name. Raises Invalid for a name that is no plain one."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise Invalid(f"{name!r} cannot be the name of a file in a bundle.")
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def padding(size: int) -> bytes:
    """What fills the last block of a file."""
    return b"\0" * (-size % _BLOCK)


def length(size: int) -> int:
    """Bytes that a file of `size` bytes takes with its header and padding."""
    return _BLOCK + size + len(padding(size))


def write(name: str, content: bytes | Path, size: int) -> Iterator[bytes]:
    """The entry in pieces. Raises Damaged when the file has another length by now."""
    yield header(name, size)
    written = 0
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        while piece := file.read(_CHUNK):
            written += len(piece)
            yield piece
    if written != size:
        raise Damaged(f"{name} changed while it was read.")
    yield padding(size)


def peek_size(file: IO[bytes], name: str, limit: int) -> int:
    """The size in the header at the file's place, which must be that of `name`; at most `limit`."""
    raw = file.read(_BLOCK)
    try:
        size = int(raw[124:135], 8)
    except ValueError:
        raise Damaged(
            f"{name} is not where it belongs: this is not a bundle, or it is truncated."
        ) from None
    if raw != header(name, size):
        raise Damaged(f"The header of {name} is damaged.")
    if size > limit:
        raise Damaged(f"{name} is {size} bytes long; at most {limit} are taken.")
    return size


def read(file: IO[bytes], name: str, size: int) -> Iterator[bytes]:
    """The bytes of the entry whose header was just read. Raises Damaged when some are missing."""
    left = size
    while left:
        piece = file.read(min(_CHUNK, left))
        if not piece:
            raise Damaged(f"{name} is truncated.")
        left -= len(piece)
        yield piece
    if file.read(len(padding(size))) != padding(size):
        raise Damaged(f"The padding after {name} is damaged.")
