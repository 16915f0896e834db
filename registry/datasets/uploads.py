"""Uploaded files, kept in a folder named by the hub until they are registered."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from django.core.files.uploadedfile import UploadedFile

from registry.datasets.snapshots import SPLITS, register_dataset
from registry.datasets.sources import SUFFIXES
from registry.errors import Invalid
from registry.models import Dataset
from registry.storage import paths


def register_upload(
    name: str,
    files: Sequence[UploadedFile[bytes]],
    description: str = "",
    columns: Mapping[str, str] | None = None,
) -> Dataset:
    """Register files named train, valid and perhaps test, or one file that is split.

    Raises what `register_dataset` raises.
    """
    folder, source = save(files)
    try:
        return register_dataset(name, source, description, origin=origin_of(files), columns=columns)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def origin_of(files: Sequence[UploadedFile[bytes]]) -> str:
    """What a data set's row says about where it came from."""
    return f"Upload: {', '.join(file.name or '' for file in files)}"[:500]


def save(files: Sequence[UploadedFile[bytes]]) -> tuple[Path, Path]:
    """Keep what was sent in a folder of its own: that folder, which the caller removes, and what
    to register: the one file in it, or the folder of several.

    File names decide only which split a file is, and its kind; none becomes part of a path.
    Raises Invalid.
    """
    if not files:
        raise Invalid("Send at least one JSONL, Parquet or CSV file.")
    names = [f"examples{_suffix(files[0].name)}"]
    if len(files) > 1:
        names = _split_names([file.name or "" for file in files])
    folder = new_folder()
    try:
        for file, name in zip(files, names, strict=True):
            write(file, folder / name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder, folder / names[0] if len(files) == 1 else folder


def register_examples(
    name: str, examples: Sequence[dict[str, Any]], description: str = ""
) -> Dataset:
    """Register examples that came as JSON; they are split. Raises what `register_dataset` raises."""
    folder = new_folder()
    try:
        source = folder / "examples.jsonl"
        with source.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(example) + "\n" for example in examples)
        return register_dataset(name, source, description, origin="API")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_folder() -> Path:
    """An empty folder for what a client sends; the caller removes it."""
    folder = paths.upload_dir(uuid.uuid4().hex)
    folder.mkdir(parents=True)
    return folder


def _suffix(name: str | None) -> str:
    """One of the known kinds; a file of another name is read as JSON lines."""
    found = PurePosixPath((name or "").lower()).suffix
    return found if found in SUFFIXES else ".jsonl"


def _split_names(names: list[str]) -> list[str]:
    """train.jsonl, valid.csv and so on for the names a client gave. Raises Invalid."""
    stems = [PurePosixPath(name).stem for name in names]
    if len(set(stems)) != len(stems) or not set(stems) <= set(SPLITS):
        raise Invalid(
            "Name several files train.jsonl, valid.jsonl and test.jsonl (or .parquet, .csv), "
            "or send a single file, which is split."
        )
    return [f"{stem}{_suffix(name)}" for stem, name in zip(stems, names, strict=True)]


def write(file: UploadedFile[bytes], path: Path) -> Path:
    """Copy an upload to `path`, piece by piece."""
    with path.open("wb") as target:
        for chunk in file.chunks():
            target.write(chunk)
    return path
