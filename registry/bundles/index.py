"""`bundle.json`: what another hub says of the version in a bundle, checked before it is believed."""

from __future__ import annotations

import hashlib
import re
from typing import IO, Any

from django.core.exceptions import ValidationError
from pydantic import BaseModel as Schema
from pydantic import ConfigDict, Field

from registry.bundles.writer import CARD, FORMAT, INDEX, SEAL
from registry.errors import Damaged, Invalid
from registry.names import parse_semver
from registry.storage import artifacts, tarball

_INDEX_LIMIT = 32_000_000
_MOST_FILES = 1000
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # not a backslash and then "u0000"
_ADAPTER_SUFFIXES = (".safetensors", ".json")  # no code and no pickles


class Entry(Schema):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class BundledLineage(Schema):
    """What the other hub recorded, of the types that a row takes."""

    version: str = Field(max_length=130)
    created_at: str = Field(max_length=40)
    metrics: dict[str, Any] = {}
    git_commit: str = Field("", max_length=40)
    git_dirty: bool | None = None
    git_diff: str = ""
    parent: str | None = None
    params: dict[str, Any] = {}
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    packages: dict[str, Any] = {}
    hardware: dict[str, Any] = {}
    manifest_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    notes: str = ""
    labels: list[str] = Field([], max_length=1000)


class BundledBase(Schema):
    """The base model that the adapter was trained on."""

    name: str = Field(max_length=100)
    origin: str = ""
    revision: str = ""
    checksum: str = Field("", max_length=64)
    architecture: str = ""
    dimensions: dict[str, Any] = {}


class BundledDataset(Schema):
    name: str = Field(max_length=100)
    checksum: str = Field("", max_length=64)
    description: str = ""


class BundledModel(Schema):
    name: str = Field(max_length=100)
    task_type: str = ""
    description: str = ""
    tags: list[str] = []


class Index(Schema):
    """`bundle.json`."""

    model_config = ConfigDict(extra="forbid")

    format: int
    files: dict[str, Entry] = Field(max_length=_MOST_FILES)
    model: BundledModel
    version: str
    lineage: BundledLineage
    base: BundledBase
    dataset: BundledDataset | None


def read_index(file: IO[bytes]) -> tuple[Index, str]:
    """The index at the start of a bundle, and its sha256. Raises Damaged and Invalid."""
    size = tarball.peek_size(file, INDEX, _INDEX_LIMIT)
    content = b"".join(tarball.read(file, INDEX, size))
    digest = hashlib.sha256(content).hexdigest()
    seal = b"".join(tarball.read(file, SEAL, tarball.peek_size(file, SEAL, 64)))
    if seal != digest.encode():
        raise Damaged(f"{INDEX} and {SEAL} do not match: one of them was changed.")
    try:
        if _ESCAPED_NUL.search(content):
            raise ValueError("a text holds NUL, which no database keeps")
        index = Index.model_validate_json(content)
        parse_semver(index.version)
    except (ValidationError, ValueError) as error:
        raise Invalid(f"{INDEX} was not written by a hub ({type(error).__name__}).") from None
    if index.format != FORMAT:
        raise Invalid(f"The bundle has format {index.format}; this hub reads format {FORMAT}.")
    return index, digest


def in_order(index: Index) -> list[str]:
    """The names of the files as they lie in a bundle, which is not the order of the sorted keys.

    Raises Invalid for a file that has no place in one.
    """
    return sorted(index.files, key=_place)


def _place(name: str) -> tuple[int, bool, str]:
    folder, _, rest = name.rpartition("/")
    return (
        ["", "adapter", "data"].index(_known_folder(folder, name)),
        rest != artifacts.MANIFEST,
        rest,
    )


def _known_folder(folder: str, name: str) -> str:
    adapter_file = folder == "adapter" and name.endswith(_ADAPTER_SUFFIXES)
    data_file = folder == "data" and name.endswith((".jsonl", f"/{artifacts.MANIFEST}"))
    if not (adapter_file or data_file or name == CARD):
        raise Invalid(f"{name!r} does not belong in a bundle.")
    return folder
