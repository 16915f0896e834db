"""Files that a system leaves in every folder that somebody looks at.

They are no part of what a folder holds, so they neither damage it nor count as its content. On exFAT
and network drives macOS puts a `._NAME` beside each file, for what that file system cannot keep.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_NAMES = frozenset(
    {
        ".DS_Store",
        ".localized",
        ".metadata_never_index",
        ".Spotlight-V100",
        ".fseventsd",
        "__MACOSX",
        "Icon\r",
        "Thumbs.db",
        "desktop.ini",
    }
)


def is_litter(name: str) -> bool:
    """Whether a posix path, relative to the folder in question, is such a file or lies below one."""
    return any(part in _NAMES or part.startswith("._") for part in name.split("/"))


def tidy(paths: Iterable[Path]) -> list[Path]:
    """`paths` without such files, sorted; their own names decide, not those of the folders above."""
    return sorted(path for path in paths if not is_litter(path.name))
