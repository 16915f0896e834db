"""Folders of this machine from which a model may be picked: those of HUB_MODEL_FOLDERS, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from backends.litter import is_litter
from registry.errors import Forbidden, NotFound

MOST = 500
"""Entries that are shown of a folder."""


@dataclass(frozen=True)
class Entry:
    """A folder to open, or a model to import: a folder with weights or a GGUF file."""

    path: Path
    is_model: bool = False
    size_bytes: int = 0

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True)
class Listing:
    """`parent` is None where it is not allowed to go up; `itself` says whether this folder is a
    model."""

    path: Path | None
    parent: Path | None
    entries: tuple[Entry, ...]
    more: bool = False


def roots() -> list[Path]:
    """The folders that may be looked into, without links."""
    return [Path(folder).expanduser().resolve() for folder in settings.MODEL_FOLDERS]


def allowed(path: str) -> Path:
    """`path` without links. Raises Forbidden outside the folders that may be looked into, and
    NotFound."""
    try:
        found = Path(path).expanduser().resolve()
    except (OSError, ValueError, RuntimeError):
        raise NotFound("There is no such folder.") from None
    if not any(found.is_relative_to(root) for root in roots()):
        raise Forbidden(
            f"{found} is not in a folder from which models may be picked; add one to HUB_MODEL_FOLDERS."
        )
    if not found.exists():
        raise NotFound(f"There is nothing at {found}.")
    return found


def look(at: str) -> Listing:
    """What is in a folder; of an empty text the folders to begin with. Raises Forbidden, NotFound."""
    places = roots()
    if not at and len(places) != 1:
        return Listing(None, None, tuple(Entry(root) for root in places))
    folder = allowed(at or str(places[0]))
    if not folder.is_dir():
        raise NotFound(f"{folder} is not a folder.")
    above = folder.parent if folder not in places else None
    entries = sorted(_entries(folder), key=lambda entry: (not entry.is_model, entry.name.lower()))
    return Listing(folder, above, tuple(entries[:MOST]), len(entries) > MOST)


def _entries(folder: Path) -> Iterator[Entry]:
    """Hidden ones and links that lead elsewhere are left out."""
    try:
        children = list(folder.iterdir())
    except OSError:
        raise Forbidden(f"{folder} cannot be read by the hub; choose another folder.") from None
    for child in children:
        if child.name.startswith(".") or is_litter(child.name):
            continue
        with suppress(OSError):
            if not any(child.resolve().is_relative_to(root) for root in roots()):
                continue
            if child.is_dir():
                weights = _weights(child)
                yield Entry(child, bool(weights), weights)
            elif child.suffix == ".gguf":
                yield Entry(child, True, child.stat().st_size)


def _weights(folder: Path) -> int:
    """Bytes of weights in a model folder, 0 of any other one."""
    if not (folder / "config.json").is_file():
        return 0
    return sum(file.stat().st_size for file in folder.glob("model*.safetensors"))
