"""Uploaded files, kept in a folder named by the hub until they are registered.

What is staged is seen as a preview first: its folder holds a manifest, by which requests find it
for a day. Ten are kept; one more takes the place of the one that was looked at longest ago.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import UploadedFile

from backends.litter import is_litter, tidy
from registry.datasets.files.rows import kind, packing
from registry.datasets.snapshots import register_dataset
from registry.datasets.splits import split_named
from registry.errors import Invalid, NotFound
from registry.models import Dataset
from registry.storage import paths

STAGED = 10
AGE = datetime.timedelta(hours=24)
_MANIFEST = ".staged.json"
_KEY = re.compile(r"[0-9a-f]{32}")
_UNPACKS = 10  # times its size, for a text


@dataclass(frozen=True)
class Saved:
    """Uploaded files: the folder that holds them, which the caller removes; what to register, the
    one file in it or the folder; by their names there, what the client calls them; where they
    came from, and whether that is a model hub; what a person has chosen for them so far."""

    folder: Path
    source: Path
    names: dict[str, str]
    origin: str = ""
    hub: bool = False
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """By which `staged` finds them."""
        return self.folder.name

    @property
    def title(self) -> str:
        """What a person calls it: its files by name, or the hub's repository."""
        return self.origin.removeprefix("Upload: ")

    @property
    def suggested_name(self) -> str:
        """What the data set may be called: as the one file, or as the hub's repository."""
        stem = self.origin.partition("@")[0].rpartition("/")[2] if self.hub else ""
        if len(self.names) == 1 and not stem:
            stem = next(iter(self.names.values())).partition(".")[0]
        return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:60]


def register_upload(
    name: str,
    files: Sequence[UploadedFile[bytes]],
    description: str = "",
    columns: Mapping[str, str] | None = None,
) -> Dataset:
    """Register files whose names say train, valid and perhaps test, or one file that is split.

    Raises what `register_dataset` raises.
    """
    saved = save(files)
    try:
        return register_dataset(
            name,
            saved.source,
            description,
            origin=origin_of(files),
            columns=columns,
            names=saved.names,
        )
    finally:
        shutil.rmtree(saved.folder, ignore_errors=True)


def origin_of(files: Sequence[UploadedFile[bytes]]) -> str:
    """What a data set's row says about where it came from."""
    return f"Upload: {', '.join(file.name or '' for file in files)}"[:500]


def save(files: Sequence[UploadedFile[bytes]]) -> Saved:
    """Keep what was sent in a folder of its own.

    File names decide only which split a file is, and its kind; none becomes part of a path.
    Raises Invalid.
    """
    files = [file for file in files if not is_litter(file.name or "")]
    if not files:
        raise Invalid("Send at least one JSONL, JSON, Parquet or CSV file.")
    given = [_shown(file.name or "") for file in files]
    names = [f"examples{_suffix(given[0])}"] if len(files) == 1 else _split_names(given)
    folder = new_folder()
    try:
        for file, name in zip(files, names, strict=True):
            write(file, folder / name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    source = folder / names[0] if len(files) == 1 else folder
    return Saved(folder, source, dict(zip(names, given, strict=True)))


def stage(files: Sequence[UploadedFile[bytes]]) -> Saved:
    """Keep what was sent for a preview. Raises Invalid."""
    return _staged(save(files), origin_of(files))


def stage_examples(
    examples: Sequence[dict[str, Any]], name: str = "examples.jsonl", origin: str = "API"
) -> Saved:
    """Keep examples that came as JSON for a preview; `name` is what a file of them would be called."""
    folder = new_folder()
    source = _write_lines(examples, folder)
    return _staged(Saved(folder, source, {source.name: name}), origin)


def stage_hub(downloaded: Path, origin: str) -> Saved:
    """Keep the folder of a model hub's data files for a preview."""
    folder = paths.upload_dir(uuid.uuid4().hex)
    downloaded.rename(folder)
    return _staged(Saved(folder, folder, {}), origin, hub=True)


def _staged(saved: Saved, origin: str, *, hub: bool = False) -> Saved:
    manifest = {
        "file": saved.source.name if saved.source != saved.folder else "",
        "names": saved.names,
        "origin": origin,
        "hub": hub,
    }
    (saved.folder / _MANIFEST).write_text(json.dumps(manifest))
    _make_room()
    return replace(saved, origin=origin, hub=hub)


def staged(key: str) -> Saved:
    """What was staged under this key, which keeps it for another day. Raises NotFound."""
    try:
        folder = paths.upload_dir(key) if _KEY.fullmatch(key) else None
        found = json.loads((folder / _MANIFEST).read_text()) if folder else None
    except FileNotFoundError:
        found = None
    if folder is None or found is None:
        raise NotFound(
            "This upload is not here any more: it was registered, discarded, or not looked at "
            f"for {AGE.total_seconds() / 3600:.0f} hours. Choose the file again."
        )
    os.utime(folder / _MANIFEST)
    return _saved(folder, found)


def _saved(folder: Path, found: Mapping[str, Any]) -> Saved:
    return Saved(
        folder,
        folder / found["file"],
        found["names"],
        found["origin"],
        found["hub"],
        found.get("chosen", {}),
    )


def remember(saved: Saved, chosen: Mapping[str, Any]) -> None:
    """Keep what a person has chosen for a staged upload. Raises NotFound."""
    path = saved.folder / _MANIFEST
    try:
        kept = json.loads(path.read_text()) | {"chosen": dict(chosen)}
        written = path.with_name(f"{_MANIFEST}.{uuid.uuid4().hex}")
        written.write_text(json.dumps(kept))
        written.replace(path)
    except FileNotFoundError:
        raise NotFound("This upload is being registered by another request.") from None


def waiting() -> list[Saved]:
    """What is staged and can be read, the one that was looked at last first."""
    found: list[tuple[float, Saved]] = []
    for manifest in (paths.root() / "uploads").glob(f"*/{_MANIFEST}"):
        with suppress(FileNotFoundError):  # another request was faster
            kept = _saved(manifest.parent, json.loads(manifest.read_text()))
            if not kept.chosen.get("unreadable"):
                found.append((manifest.stat().st_mtime, kept))
    oldest = time.time() - AGE.total_seconds()
    return [saved for at, saved in sorted(found, key=lambda pair: -pair[0]) if at >= oldest]


def is_staged(key: str) -> bool:
    """Whether `staged` finds this key."""
    return bool(_KEY.fullmatch(key)) and (paths.upload_dir(key) / _MANIFEST).exists()


def claim(saved: Saved) -> None:
    """Take a staged upload for a task, so that no other request finds it. Raises NotFound."""
    try:
        (saved.folder / _MANIFEST).rename(saved.folder / f"{_MANIFEST}.taken")
    except FileNotFoundError:
        raise NotFound("This upload is being registered by another request.") from None


def give_back(folder: Path) -> bool:
    """Stage again what `claim` took; whether it was staged at all."""
    try:
        (folder / f"{_MANIFEST}.taken").rename(folder / _MANIFEST)
    except FileNotFoundError:
        return False
    os.utime(folder / _MANIFEST)
    return True


def discard(saved: Saved) -> None:
    """Remove uploaded files."""
    shutil.rmtree(saved.folder, ignore_errors=True)


def _make_room() -> None:
    """Remove what was staged before the newest `STAGED`, or not looked at for `AGE`."""
    looked_at = {}
    for manifest in (paths.root() / "uploads").glob(f"*/{_MANIFEST}"):
        with suppress(FileNotFoundError):  # another request was faster
            looked_at[manifest.parent] = manifest.stat().st_mtime
    oldest = time.time() - AGE.total_seconds()
    for place, folder in enumerate(sorted(looked_at, key=looked_at.__getitem__, reverse=True)):
        if place >= STAGED or looked_at[folder] < oldest:
            shutil.rmtree(folder, ignore_errors=True)


def size_of(source: Path, *, nested: bool = False) -> int:
    """Bytes to read of a file or folder (`nested`: and of those below it): of a compressed file,
    those that it may well unpack to."""
    if not source.is_dir():
        return _to_read(source.name, source.stat().st_size)
    files = source.rglob("*") if nested else source.iterdir()
    return sum(_to_read(path.name, path.stat().st_size) for path in tidy(files) if kind(path))


def sent_size(files: Sequence[UploadedFile[bytes]]) -> int:
    """The same of files that were sent."""
    return sum(_to_read(file.name or "", file.size or 0) for file in files)


def _to_read(name: str, size: int) -> int:
    return size * (_UNPACKS if packing(name) else 1)


def register_examples(
    name: str, examples: Sequence[dict[str, Any]], description: str = ""
) -> Dataset:
    """Register examples that came as JSON; they are split. Raises what `register_dataset` raises."""
    folder = new_folder()
    try:
        source = _write_lines(examples, folder)
        return register_dataset(name, source, description, origin="API")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_lines(examples: Sequence[dict[str, Any]], folder: Path) -> Path:
    path = folder / "examples.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(example) + "\n" for example in examples)
    return path


def new_folder() -> Path:
    """An empty folder for what a client sends; the caller removes it."""
    folder = paths.upload_dir(uuid.uuid4().hex)
    folder.mkdir(parents=True)
    return folder


def _shown(name: str) -> str:
    """What a client calls a file, as it can be shown in one line."""
    return "".join(char for char in name if char.isprintable())[-100:] or "examples.jsonl"


def _suffix(name: str) -> str:
    """One of the known kinds, perhaps compressed; a file of another name is read as JSON lines."""
    return (kind(name) or ".jsonl") + packing(name)


def _split_names(names: list[str]) -> list[str]:
    """train-1.jsonl, valid-2.csv and so on for the names a client gave. Raises Invalid."""
    splits = [split_named(name) for name in names]
    if not {"train", "valid"} <= set(splits) or "" in splits:
        raise Invalid(
            "Name several files train.jsonl, valid.jsonl (or val, validation, dev, eval) and "
            "test.jsonl (or .json, .parquet, .csv), or send a single file, which is split."
        )
    return [
        f"{split}-{number}{_suffix(name)}"
        for number, (split, name) in enumerate(zip(splits, names, strict=True), start=1)
    ]


def write(file: UploadedFile[bytes], path: Path) -> Path:
    """Copy an upload to `path`, piece by piece."""
    with path.open("wb") as target:
        for chunk in file.chunks():
            target.write(chunk)
    return path
