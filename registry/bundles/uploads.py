"""Bundles that a client sends, verified as they are read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from django.core.files.uploadedfile import TemporaryUploadedFile, UploadedFile

from registry.bundles.reader import take_at_once
from registry.datasets.uploads import new_folder, write
from registry.errors import Damaged, Invalid
from registry.models import ModelVersion

BUNDLE = "bundle.tar"


def import_bundle_upload(
    file: UploadedFile[bytes], model_name: str = "", base_name: str = "", number: str = ""
) -> ModelVersion:
    """Take the version out of an uploaded bundle. Raises what `take_at_once` raises; a damaged one
    is Invalid here: the client has to fix it."""
    with blaming_the_client(), from_its_beginning(file) as content:
        return take_at_once(content, model_name, base_name, number)


def save_bundle(file: UploadedFile[bytes]) -> Path:
    """Keep an uploaded bundle in a folder of its own, as `BUNDLE`; the caller removes the folder.
    A file that Django has written to the disk already is moved."""
    folder = new_folder()
    try:
        if isinstance(file, TemporaryUploadedFile):
            shutil.move(file.temporary_file_path(), folder / BUNDLE)
        else:
            write(file, folder / BUNDLE)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


@contextmanager
def blaming_the_client() -> Iterator[None]:
    """Damaged becomes Invalid: the client sent it that way."""
    try:
        yield
    except Damaged as damage:
        raise Invalid(f"{damage} Nothing was kept; export the bundle again.") from None


@contextmanager
def from_its_beginning(file: UploadedFile[bytes]) -> Iterator[IO[bytes]]:
    """The bytes of an upload from their beginning, and rewound afterwards."""
    file.seek(0)
    yield cast(IO[bytes], file)
    file.seek(0)
