"""Data sets: checked, split, and snapshotted by content, so that lineage outlives the source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import IO, Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from registry import artifacts, paths
from registry.errors import Conflict, Invalid, NotFound
from registry.examples import FIELDS, Reader
from registry.models import Dataset
from registry.names import validate_name

SPLITS = ("train", "valid", "test")
STARTER = "calendar-requests"
_STARTER_FOLDER = Path(__file__).parent / "starter"
_STARTER_DESCRIPTION = (
    "Requests in plain English and the calendar entry they ask for, as exact JSON. "
    "Ships with the hub; registry/starter/calendar.py makes it."
)


def register_dataset(
    name: str, source: Path, description: str = "", *, origin: str | None = None
) -> Dataset:
    """Check the examples at `source`, snapshot them in storage and make their row.

    `source` is a folder with train.jsonl, valid.jsonl and perhaps test.jsonl, or one JSONL file,
    which is split 80/10/10 by a hash of each example, so that equal examples stay together.
    The same name with the same examples returns the row that exists. `origin` is what the row
    says about where it came from, when that is not the path.

    Raises Invalid (with line numbers), NotFound, and Conflict when the name is taken.
    """
    _check_name(name)
    if not source.exists():
        raise NotFound(f"There is nothing at {source}.")
    staging = paths.staging_dir("dataset")
    try:
        reader = Reader()
        counts = (
            _copy_folder(source, staging, reader)
            if source.is_dir()
            else _split(source, staging, reader)
        )
        manifest = artifacts.seal(staging)
        return _store(
            staging,
            manifest,
            Dataset(
                name=name,
                description=description,
                source=str(source.absolute()) if origin is None else origin,
                format=reader.check(),
                schema={"fields": FIELDS[reader.check()]},
                splits=counts,
                token_stats=_sizes(reader, counts),
            ),
        )
    finally:
        artifacts.discard(staging)


def register_starter_dataset() -> Dataset:
    """The examples that ship with the hub; the same row on every call."""
    return register_dataset(
        STARTER, _STARTER_FOLDER, _STARTER_DESCRIPTION, origin="registry/starter"
    )


def dataset_path(dataset: Dataset) -> Path:
    """The snapshot: a folder with train.jsonl, valid.jsonl and perhaps test.jsonl."""
    return paths.absolute(dataset.path)


def read_examples(
    dataset: Dataset, split: str, offset: int = 0, limit: int = 20
) -> list[dict[str, Any]]:
    """Examples `offset` to `offset + limit` of a split. Raises NotFound for an unknown split."""
    if split not in dataset.splits:
        known = ", ".join(dataset.splits)
        raise NotFound(f"{dataset.name} has no split {split!r}; it has {known}.")
    path = dataset_path(dataset) / f"{split}.jsonl"
    try:
        with path.open(encoding="utf-8") as file:
            return [json.loads(line) for line in islice(file, offset, offset + limit)]
    except FileNotFoundError:
        raise NotFound(f"The snapshot of {dataset.name} is missing from storage.") from None


def _check_name(name: str) -> None:
    try:
        validate_name(name)
    except ValidationError as error:
        raise Invalid(" ".join(error.messages)) from None


def _store(staging: Path, manifest: artifacts.Manifest, dataset: Dataset) -> Dataset:
    """Insert the row and move the snapshot in one transaction, or return the row that has both."""
    target = paths.dataset_dir(manifest.sha256)
    dataset.path = paths.relative(target)
    dataset.checksum = manifest.sha256
    dataset.size_bytes = manifest.size_bytes
    existing = Dataset.objects.filter(name__iexact=dataset.name).first()
    if existing is None:
        try:
            with transaction.atomic():
                dataset.save()
                artifacts.put(staging, manifest, target)
            return dataset
        except IntegrityError:  # registered by somebody else since we looked
            existing = Dataset.objects.get(name__iexact=dataset.name)
    if existing.checksum != manifest.sha256:
        raise Conflict(
            f"There is already a data set named {existing.name} with other examples; "
            "choose another name."
        )
    artifacts.put(staging, manifest, target)  # heals a snapshot that was lost or damaged
    return existing


def _copy_folder(source: Path, staging: Path, reader: Reader) -> dict[str, int]:
    files = {split: source / f"{split}.jsonl" for split in SPLITS}
    for split in ("train", "valid"):
        if not files[split].is_file():
            raise Invalid(f"{source.name} needs a {split}.jsonl; or give one file to be split.")
    counts = {
        split: _write(staging / path.name, reader.read(path))
        for split, path in files.items()
        if path.is_file()
    }
    reader.check()
    for split in ("train", "valid"):
        if not counts[split]:
            raise Invalid(f"{split}.jsonl holds no example.")
    if counts.get("test") == 0:
        (staging / "test.jsonl").unlink()
        del counts["test"]
    return counts


def _write(path: Path, lines: Iterable[str]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for line in lines:
            file.write(line + "\n")
            count += 1
    return count


def _split(source: Path, staging: Path, reader: Reader) -> dict[str, int]:
    counts = dict.fromkeys(SPLITS, 0)
    files: dict[str, IO[str]] = {}
    try:
        for split in SPLITS:
            path = staging / f"{split}.jsonl"
            files[split] = path.open("w", encoding="utf-8", newline="\n")
        for line in reader.read(source):
            split = _split_of(line)
            files[split].write(line + "\n")
            counts[split] += 1
    finally:
        for file in files.values():
            file.close()
    reader.check()
    if not all(counts.values()):
        counts = _fill_empty_splits(staging)
    return counts


def _split_of(line: str) -> str:
    tenth = int(_digest(line)[:8], 16) % 10
    return {0: "test", 1: "valid"}.get(tenth, "train")


def _fill_empty_splits(staging: Path) -> dict[str, int]:
    """Chance left a split of a small file empty: give it a distinct example of a fuller one."""
    groups: dict[str, dict[str, list[str]]] = {}
    for split in SPLITS:
        lines = (staging / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        groups[split] = {}
        for line in lines:
            groups[split].setdefault(line, []).append(line)
    if sum(len(group) for group in groups.values()) < len(SPLITS):
        raise Invalid(
            "A data set needs at least 3 different examples, so that training, validation and "
            "test get one each."
        )
    for split in SPLITS:
        if not groups[split]:
            fullest = max(groups.values(), key=len)
            line = min(fullest, key=_digest)
            groups[split][line] = fullest.pop(line)
    return {
        split: _write(staging / f"{split}.jsonl", [ln for same in group.values() for ln in same])
        for split, group in groups.items()
    }


def _digest(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest()


def _sizes(reader: Reader, counts: dict[str, int]) -> dict[str, float | int]:
    """Lengths in characters: tokens depend on the base model, which is not known here."""
    examples = sum(counts.values())
    return {
        "characters": reader.characters,
        "characters_per_example": round(reader.characters / examples, 1),
        "longest_characters": reader.longest,
    }
