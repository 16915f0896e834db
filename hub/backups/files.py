"""Files on their way into a backup: copied, or linked to an earlier backup that has them already."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from backends.durable import fsync
from backends.litter import is_litter
from hub.backups.folder import Backup, Entry
from registry.errors import Damaged
from registry.storage import artifacts

_CHUNK = 1 << 20


@dataclass
class Store:
    """The files of a backup in the making, in the folder `path`."""

    path: Path
    earlier: Backup | None
    entries: dict[str, Entry] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    copied_bytes: int = 0
    linked: int = 0
    _known: dict[tuple[str, int], Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.earlier:
            for name, entry in self.earlier.files.items():
                self._known[entry.sha256, entry.size] = self.earlier.path / name

    def add(self, name: str) -> None:
        """Take in a file that was written into the folder directly, such as a database."""
        path = self.path / name
        stat = path.stat()
        fsync(path)
        self.entries[name] = Entry(artifacts.sha256(path), stat.st_size, stat.st_mtime_ns)
        self.copied_bytes += stat.st_size

    def put(self, source: Path, name: str, expected: artifacts.File | None = None) -> None:
        """Keep `source` as `name`. What it must hold is known of a sealed file; another one is taken
        for unchanged while its size and time are. Raises OSError."""
        stat = source.stat()
        before = self.earlier.files.get(name) if self.earlier and expected is None else None
        if before and (before.size, before.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
            expected = artifacts.File(before.sha256, before.size)
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if expected and self._link(expected.sha256, expected.size, target):
            self.entries[name] = Entry(expected.sha256, expected.size, stat.st_mtime_ns)
            return
        sha256, size = copy(source, target)
        if not self._link(sha256, size, target):
            self._known[sha256, size] = target
            self.copied_bytes += size
        self.entries[name] = Entry(sha256, size, stat.st_mtime_ns)
        if expected and (sha256, size) != (expected.sha256, expected.size):
            self.missing.append(f"{name} is damaged in storage and was kept as it is.")

    def _link(self, sha256: str, size: int, target: Path) -> bool:
        """Put the same bytes at `target` without copying them; False where they are not known or the
        drive has no links."""
        known = self._known.get((sha256, size))
        beside = target.with_name(f".link-{target.name}"[:255])
        try:
            if known is None or known == target or known.stat().st_size != size:
                return False
            os.link(known, beside)
            beside.replace(target)
        except OSError:
            return False
        self.linked += 1
        return True

    def put_sealed(self, folder: Path, name: str, manifest_sha256: str) -> None:
        """Keep a sealed folder as `name`; what it lacks is noted in `missing`."""
        if not folder.is_dir():
            self.missing.append(f"{name} is missing in storage.")
            return
        try:
            manifest = artifacts.read_manifest(folder)
        except Damaged as damage:
            self.missing.append(f"{name} is damaged in storage: {damage}")
            self.put_tree(folder, name)
            return
        if manifest.sha256 != manifest_sha256:
            self.missing.append(f"{name} is damaged in storage: its manifest is another one.")
        for file, expected in manifest.files.items():
            if is_litter(file):
                continue
            try:
                self.put(folder / file, f"{name}/{file}", expected)
            except FileNotFoundError:
                self.missing.append(f"{name}/{file} is missing in storage.")
        self.put(folder / artifacts.MANIFEST, f"{name}/{artifacts.MANIFEST}")

    def put_tree(self, folder: Path, name: str) -> None:
        """Keep every plain file below `folder`, whose files may come and go meanwhile."""
        for path in _files(folder):
            try:
                self.put(path, f"{name}/{path.relative_to(folder).as_posix()}")
            except FileNotFoundError:
                continue


def _files(folder: Path) -> Iterator[Path]:
    """Plain files, those left out that are being written under another name."""
    for here, folders, names in os.walk(folder):
        folders[:] = [one for one in folders if not one.startswith(".staging-")]
        for name in sorted(names):
            path = Path(here) / name
            if not path.is_symlink() and path.is_file() and not is_litter(name):
                yield path


def copy(source: Path, target: Path) -> tuple[str, int]:
    """Copy the bytes durably; their sha256 and their number."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reading, target.open("wb") as writing:
        while piece := reading.read(_CHUNK):
            digest.update(piece)
            writing.write(piece)
            size += len(piece)
    target.chmod(source.stat().st_mode & 0o700)
    fsync(target)
    return digest.hexdigest(), size
