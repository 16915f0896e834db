"""Models that a browser sends piece by piece: a GGUF file, or the files of a model folder.

A set of files has a folder of its own, named by what the files are called, how large they are and when
they were written, so that whoever sends the same ones again continues after what has arrived. Fine-tunes
of one model have files of the same names and sizes.
"""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.bases.downloads import check_room
from registry.bases.registration import WANTED
from registry.errors import Conflict, Invalid, NotFound
from registry.models.bases import RESUMABLE
from registry.storage import paths

PIECE = 8 << 20
"""Bytes that a page sends at a time; any other number is taken as well."""
_MANIFEST = ".pieces"
_KEY = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_MOST_FILES = 500


@dataclass(frozen=True)
class Arriving:
    """What is being sent: size and bytes that have arrived of each file, and the names of those that
    are not needed."""

    key: str
    folder: Path
    sizes: dict[str, int]
    left_out: tuple[str, ...] = ()

    @property
    def received(self) -> dict[str, int]:
        return {name: _arrived(self.folder / name) for name in self.sizes}

    @property
    def is_whole(self) -> bool:
        return self.received == self.sizes

    @property
    def is_gguf(self) -> bool:
        return next(iter(self.sizes)).endswith(".gguf")


def begin(files: Sequence[tuple[str, int, int]]) -> Arriving:
    """Make room for files of these names, sizes and times (or 0), or find what has arrived of them.

    Raises Invalid for files that are no model, and DiskFull.
    """
    wanted = {name: size for name, size, _ in files if _is_wanted(name) and size >= 0}
    left_out = tuple(name for name, *_ in files if name not in wanted)
    _check(list(wanted), len(files))
    text = json.dumps(sorted(file for file in files if file[0] in wanted))
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    folder = paths.upload_dir(key)
    _forget_old_ones()
    folder.mkdir(parents=True, exist_ok=True)
    check_room(folder, sum(wanted.values()))
    (folder / _MANIFEST).write_text(json.dumps(wanted))
    return Arriving(key, folder, wanted, left_out)


def arriving(key: str) -> Arriving:
    """What `begin` made. Raises NotFound."""
    try:
        folder = paths.upload_dir(key) if _KEY.fullmatch(key) else None
        sizes = json.loads((folder / _MANIFEST).read_text()) if folder else None
    except FileNotFoundError:
        sizes = None
    if folder is None or sizes is None:
        raise NotFound("This upload is not here any more; choose the files again.")
    return Arriving(key, folder, sizes)


def append(upload: Arriving, name: str, offset: int, piece: Iterable[bytes]) -> int:
    """Add the bytes from `offset` on to a file; how many there are of it now.

    Raises Conflict when it does not continue there, Invalid beyond its size, NotFound.
    """
    if name not in upload.sizes:
        raise NotFound(f"{name} is no file of this upload.")
    with (upload.folder / name).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        have = file.seek(0, 2)
        if have != offset:
            raise Conflict(f"{name} continues at byte {have}, not {offset}.")
        for part in piece:
            have += len(part)
            if have > upload.sizes[name]:
                file.truncate(offset)
                raise Invalid(f"{name} is longer than was said; choose the file again.")
            file.write(part)
    return have


def whole(upload: Arriving) -> Path:
    """The folder or file to import. Raises Conflict while anything is missing."""
    for name, size in upload.sizes.items():
        if (have := _arrived(upload.folder / name)) != size:
            raise Conflict(f"{name} has not arrived yet: {have} of {size} bytes are here.")
    return upload.folder / next(iter(upload.sizes)) if upload.is_gguf else upload.folder


def _arrived(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _is_wanted(name: str) -> bool:
    if not _NAME.fullmatch(name):
        return False
    return name.endswith(".gguf") or any(fnmatch.fnmatch(name, one) for one in WANTED)


def _check(names: list[str], sent: int) -> None:
    """Raises Invalid unless the names are those of one model."""
    ggufs = [name for name in names if name.endswith(".gguf")]
    if sent > _MOST_FILES:
        raise Invalid(f"These are over {_MOST_FILES} files; choose those of one model.")
    if len(names) == 1 and ggufs:
        return
    if ggufs:
        raise Invalid("Send one GGUF file alone, or the files of one folder without any.")
    lacking = [
        what
        for what, pattern in (
            ("config.json", "config.json"),
            ("tokenizer.json", "tokenizer.json"),
            ("model.safetensors", "model*.safetensors"),
        )
        if not fnmatch.filter(names, pattern)
    ]
    if lacking:
        raise Invalid(
            f"Not there: {', '.join(lacking)}. Send one .gguf file, or all files of a model's folder "
            "together."
        )


def _forget_old_ones() -> None:
    """Remove what nobody has continued for as long as downloads are kept."""
    oldest = time.time() - RESUMABLE.total_seconds()
    for manifest in (paths.root() / "uploads").glob(f"*/{_MANIFEST}"):
        newest = max((file.stat().st_mtime for file in manifest.parent.iterdir()), default=0.0)
        if newest < oldest:
            shutil.rmtree(manifest.parent, ignore_errors=True)
