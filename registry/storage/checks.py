"""Whether a folder equals its manifest, and the manifest the one that was recorded: by every byte,
or at least by every file's size."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from backends.litter import is_litter
from registry.errors import Damaged
from registry.storage import artifacts, paths


def require_sound(
    folder: Path, manifest_sha256: str | None, what: str, remedy: str = ""
) -> artifacts.Manifest:
    """The manifest of `folder`, after every byte was read. Raises Damaged, which names `what` and
    the first problems and says the `remedy`. None accepts whatever manifest the folder has."""
    if problems := check_folder(folder, manifest_sha256):
        raise Damaged(" ".join([f"{what} is damaged:", *problems[:3], remedy]).strip())
    return artifacts.read_manifest(folder)


def check_folder(folder: Path, manifest_sha256: str | None) -> list[str]:
    """What differs from the manifest that a row recorded, a sentence each; reads every byte. None
    accepts whatever manifest the folder has."""
    if not folder.is_dir():
        return [f"The folder {paths.relative(folder)} is missing."]
    problems = artifacts.verify(folder)
    if problems or manifest_sha256 is None:
        return problems
    if artifacts.read_manifest(folder).sha256 != manifest_sha256:
        return ["Its manifest is not the one that was recorded."]
    return problems


def check_sizes(folder: Path, manifest_sha256: str) -> list[str]:
    """`check_folder` by presence and size alone, in microseconds; a manifest is read again once its file
    has changed."""
    try:
        manifest = _manifest(folder, _stamp(folder))
    except Damaged as damage:
        return [str(damage)]
    if manifest.sha256 != manifest_sha256:
        return ["Its manifest is not the one that was recorded."]
    problems = []
    for name, file in sorted(manifest.files.items()):
        if is_litter(name):
            continue
        try:
            size = (folder / name).stat().st_size
        except OSError:
            problems.append(f"{name} is missing.")
        else:
            if size != file.size:
                problems.append(f"{name} has {size} bytes, {file.size} were recorded.")
    return problems


@lru_cache(maxsize=200)
def _manifest(folder: Path, stamp: tuple[int, ...]) -> artifacts.Manifest:
    return artifacts.read_manifest(folder)


def _stamp(folder: Path) -> tuple[int, ...]:
    """Differs once the manifest's file is another or was written to; () without one."""
    try:
        found = (folder / artifacts.MANIFEST).stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ino, found.st_size
