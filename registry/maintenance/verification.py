"""Reads what storage holds and compares it with what was recorded: versions, bases, data sets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from registry.catalog.registration import find_model
from registry.errors import Conflict, Damaged, NotFound
from registry.models import BaseModel, Dataset, ModelVersion
from registry.storage import paths
from registry.storage.checks import check_folder

_STORED = (ModelVersion.Status.READY, ModelVersion.Status.ARCHIVED)


@dataclass(frozen=True)
class Verified:
    """One folder that was read through; no `problems` means that every byte is as recorded."""

    name: str
    path: str
    size_bytes: int
    problems: list[str]


def verify_version(version: ModelVersion) -> Verified:
    """Read a version's files, wherever a move that was interrupted has left them.

    Raises Conflict when there are none: it is still training, or its training failed.
    """
    path = version.artifact_path
    if not path:
        raise Conflict(f"{version} is {version.status}; it has no files to verify.")
    if version.moving_to and not paths.absolute(path).exists():
        path = version.moving_to
    return _verified(str(version), path, version.manifest_sha256, version.size_bytes)


def require_sound(version: ModelVersion) -> None:
    """Raises Damaged, naming what is wrong, unless every byte of the version is as recorded."""
    if problems := verify_version(version).problems:
        raise Damaged(f"{version} is damaged: {' '.join(problems)}")


def verify_base(base: BaseModel) -> Verified:
    """Read a base model's files."""
    return _verified(f"base:{base.name}", base.path, base.manifest_sha256, base.size_bytes)


def verify_dataset(dataset: Dataset) -> Verified:
    """Read a data set's snapshot."""
    return _verified(f"data set {dataset}", dataset.path, dataset.checksum, dataset.size_bytes)


def verify_all(name: str = "", *, everything: bool = False) -> Iterator[Verified]:
    """The versions that `name` (NAME or NAME@VERSION) chooses, or all; `everything` adds bases
    and data sets. Raises NotFound before the first is read when the name chooses nothing."""
    versions = find_stored(name)
    for version in versions:
        yield verify_version(version)
    if everything:
        yield from map(verify_base, BaseModel.objects.all())
        yield from map(verify_dataset, Dataset.objects.order_by("name", "revision"))


def find_stored(name: str) -> list[ModelVersion]:
    """Ready and archived versions of NAME, NAME@VERSION, or of every model when `name` is empty.

    Raises NotFound.
    """
    stored = ModelVersion.objects.filter(status__in=_STORED).select_related("model")
    stored = stored.order_by("model__name", "major", "minor", "patch")
    if not name:
        return list(stored)
    model_name, at, number = name.partition("@")
    model = find_model(model_name)
    found = stored.filter(model=model)
    if at:
        found = found.filter(version=number)
        if not found:
            raise NotFound(f"{model} has no version {number!r} with files.")
    return list(found)


def _verified(name: str, path: str, manifest_sha256: str, size_bytes: int) -> Verified:
    return Verified(name, path, size_bytes, check_folder(paths.absolute(path), manifest_sha256))
