"""Examples that a client sends: kept in a folder of storage's own choosing until registered."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import UploadedFile

from registry import paths
from registry.datasets import SPLITS, register_dataset
from registry.errors import Invalid
from registry.models import Dataset

_SPLIT_NAMES = {f"{split}.jsonl": split for split in SPLITS}


def register_upload(
    name: str, files: Sequence[UploadedFile[bytes]], description: str = ""
) -> Dataset:
    """Register train.jsonl, valid.jsonl and perhaps test.jsonl, or one file that is split.

    Raises what `register_dataset` raises.
    """
    sent = ", ".join(file.name or "" for file in files)
    with kept_while_read(files) as source:
        return register_dataset(name, source, description, origin=f"Upload: {sent}"[:500])


@contextmanager
def kept_while_read(files: Sequence[UploadedFile[bytes]]) -> Iterator[Path]:
    """One uploaded file, or a folder of several, at a path that is gone afterwards.

    File names decide only which split a file is; none becomes part of a path. Raises Invalid.
    """
    if not files:
        raise Invalid("Send at least one JSONL file.")
    folder = _folder()
    try:
        if len(files) == 1:
            yield _save(files[0], folder / "examples.jsonl")
        else:
            _check_names([file.name or "" for file in files])
            for file in files:
                _save(file, folder / f"{_SPLIT_NAMES[file.name or '']}.jsonl")
            yield folder
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


def _save(file: UploadedFile[bytes], path: Path) -> Path:
    with path.open("wb") as target:
        for chunk in file.chunks():
            target.write(chunk)
    return path
