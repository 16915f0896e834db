"""Folders of files that are written once: sealed by a manifest, moved into place by a rename.

The order is files → fsync → `manifest.json` → fsync of the folder → rename → fsync of the parent,
so that after a crash a folder is at its place whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from backends.durable import fsync
from backends.litter import is_litter
from registry.errors import Damaged
from registry.storage import paths

MANIFEST = "manifest.json"
_CHUNK = 1 << 20
_FORMAT = 1


@dataclass(frozen=True)
class File:
    """One file as the manifest records it."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a folder holds. `sha256` is that of the bytes of `manifest.json`."""

    sha256: str
    files: dict[str, File]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files, the manifest itself left out."""
        return sum(file.size for file in self.files.values())


def publish(staging: Path, target: Path) -> Manifest:
    """Seal `staging` and move it to `target`, durably. Both lie on one file system.

    An intact folder with the same content that is there already is kept. Any other is replaced,
    so call this only where no row names `target` yet.
    """
    manifest = seal(staging)
    put(staging, manifest, target)
    return manifest


def seal(staging: Path) -> Manifest:
    """Make every file of `staging` durable and read-only, and write its manifest.

    Raises Damaged when the folder is missing or empty, or holds a link or special file.
    """
    if not staging.is_dir():
        raise Damaged(f"{staging.name} is missing: there is nothing to publish.")
    names = sorted(name for name in _names(staging) if name != MANIFEST)
    if not names:
        raise Damaged(f"{staging.name} is empty: there is nothing to publish.")
    files = {name: _seal_file(staging / name) for name in names}
    content = _dump(files)
    path = staging / MANIFEST
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    fsync(path)
    for folder in {staging, *((staging / name).parent for name in names)}:
        fsync(folder)
    return Manifest(hashlib.sha256(content).hexdigest(), files)


def put(staging: Path, manifest: Manifest, target: Path) -> None:
    """Move the sealed folder `staging` to `target`; what `publish` says holds here too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        if _holds(target, manifest):
            discard(staging)
            return
        old = paths.staging_dir("replaced") / target.name
        target.rename(old)
        staging.rename(target)
        discard(old.parent)
    else:
        staging.rename(target)
    fsync(target.parent)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a published folder. Raises Damaged when it is missing or unreadable."""
    try:
        content = (folder / MANIFEST).read_bytes()
        entries = json.loads(content)["files"]
        files = {name: File(str(e["sha256"]), int(e["size"])) for name, e in entries.items()}
    except FileNotFoundError:
        raise Damaged(
            f"{folder.name} has no {MANIFEST}: it was not published completely."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise Damaged(f"{folder.name}/{MANIFEST} is not readable.") from None
    return Manifest(hashlib.sha256(content).hexdigest(), files)


def verify(folder: Path) -> list[str]:
    """Read every byte; the problems, one sentence each. An empty list is a sound folder."""
    try:
        manifest = read_manifest(folder)
    except Damaged as error:
        return [str(error)]
    present = set(_names(folder)) - {MANIFEST}
    recorded = {name for name in manifest.files if not is_litter(name)}  # older ones may name it
    problems = [f"{name} is missing." for name in sorted(recorded - present)]
    problems += [f"{name} is not in the manifest." for name in sorted(present - recorded)]
    for name in sorted(present & recorded):
        problems += _damage(folder / name, name, manifest.files[name])
    return problems


def discard(folder: Path) -> None:
    """Remove a folder below storage/staging that is no longer needed; a missing one is fine.

    It is renamed first: a crash during the removal must not leave half of its files under a name
    that could be published again.
    """
    trash = folder.with_name(f"trash-{uuid.uuid4().hex}")
    try:
        folder.rename(trash)
    except FileNotFoundError:
        return
    shutil.rmtree(trash, ignore_errors=True)


def _holds(folder: Path, manifest: Manifest) -> bool:
    return not verify(folder) and read_manifest(folder).sha256 == manifest.sha256


def _damage(path: Path, name: str, expected: File) -> list[str]:
    if path.is_symlink() or not path.is_file():
        return [f"{name} is not a plain file."]
    size = path.stat().st_size
    if size != expected.size:
        return [f"{name} has {size} bytes, {expected.size} were recorded."]
    if sha256(path) != expected.sha256:
        return [f"{name} has other content than was recorded."]
    return []


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names(folder: Path) -> Iterator[str]:
    """Everything below `folder` that is not a folder, as posix paths relative to it."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if (path.is_symlink() or not path.is_dir()) and not is_litter(name):
            yield name


def _seal_file(path: Path) -> File:
    if path.is_symlink() or not path.is_file():
        raise Damaged(f"{path.name} is not a plain file and cannot be published.")
    path.chmod(0o444)
    fsync(path)
    return File(sha256(path), path.stat().st_size)


def _dump(files: dict[str, File]) -> bytes:
    entries = {name: {"sha256": f.sha256, "size": f.size} for name, f in files.items()}
    return json.dumps({"format": _FORMAT, "files": entries}, indent=1, sort_keys=True).encode()
