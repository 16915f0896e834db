"""Lines of a file from any of them on."""

from __future__ import annotations

import os
from typing import IO

_BLOCK = 1 << 20  # bytes


def skip(file: IO[bytes], lines: int) -> None:
    """Read on to after so many lines, or to the end. They are counted, not looked at: a file of a
    gigabyte is skipped in a second."""
    while lines > 0 and (block := file.read(_BLOCK)):
        count = block.count(b"\n")
        if count < lines:
            lines -= count
            continue
        end = 0
        for _ in range(lines):
            end = block.index(b"\n", end) + 1
        file.seek(end - len(block), os.SEEK_CUR)
        return
