"""Examples that a client sends: kept in a folder of storage's own choosing until registered."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import UploadedFile

from registry import paths
from registry.datasets import SPLITS, register_dataset
from registry.errors import Invalid
from registry.models import Dataset

_SPLIT_NAMES = {f"{split}.jsonl": split for split in SPLITS}


def register_upload(name: str, files: Sequence[UploadedFile], description: str = "") -> Dataset:
    """Register train.jsonl, valid.jsonl and perhaps test.jsonl, or one file that is split.

    File names decide only which split a file is; none becomes part of a path. Raises what
    `register_dataset` raises.
    """
    if not files:
        raise Invalid("Send at least one JSONL file.")
    sent = [file.name or "" for file in files]
    folder = _folder()
    try:
        source = folder
        if len(files) == 1:
            source = _save(files[0], folder / "examples.jsonl")
        else:
            _check_names(sent)
            for file, file_name in zip(files, sent, strict=True):
                _save(file, folder / f"{_SPLIT_NAMES[file_name]}.jsonl")
        return register_dataset(
            name, source, description, origin=f"Upload: {', '.join(sent)}"[:500]
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def register_examples(
    name: str, examples: Sequence[dict[str, Any]], description: str = ""
) -> Dataset:
    """Register examples that came as JSON; they are split. Raises what `register_dataset` raises."""
    folder = _folder()
    try:
        source = folder / "examples.jsonl"
        with source.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(example) + "\n" for example in examples)
        return register_dataset(name, source, description, origin="API")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _folder() -> Path:
    folder = paths.upload_dir(uuid.uuid4().hex)
    folder.mkdir(parents=True)
    return folder


def _check_names(names: list[str]) -> None:
    if len(set(names)) != len(names) or not set(names) <= _SPLIT_NAMES.keys():
        raise Invalid(
            "Name several files train.jsonl, valid.jsonl and test.jsonl, "
            "or send a single file, which is split."
        )


def _save(file: UploadedFile, path: Path) -> Path:
    with path.open("wb") as target:
        for chunk in file.chunks():
            target.write(chunk)
    return path
