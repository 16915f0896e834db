"""Uploaded files, kept in a folder named by the hub until they are registered."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import UploadedFile

from registry.datasets.files.rows import kind, packing
from registry.datasets.snapshots import register_dataset
from registry.datasets.splits import split_named
from registry.errors import Invalid
from registry.models import Dataset
from registry.storage import paths


@dataclass(frozen=True)
class Saved:
    """Uploaded files: the folder that holds them, which the caller removes; what to register, the
    one file in it or the folder; and by their names there, what the client calls them."""

    folder: Path
    source: Path
    names: dict[str, str]


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
