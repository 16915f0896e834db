"""Data sets: checked, split, and snapshotted by content, so that lineage outlives the source."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from registry.background.progress import SILENT, Progress
from registry.datasets import labels, revisions
from registry.datasets.files.lines import skip
from registry.datasets.formats import COLUMNS
from registry.datasets.reading.examples import Reader
from registry.datasets.splits import SPLITS, split_hub_files, write_splits
from registry.errors import Conflict, Invalid, NotFound, Unavailable
from registry.models import Dataset
from registry.names import validate_name
from registry.storage import artifacts, paths

__all__ = ["SPLITS", "dataset_path", "read_examples", "register_dataset"]

STARTER = "calendar-requests"
_STARTER_FOLDER = Path(__file__).parent / "starter"
_STARTER_DESCRIPTION = (
    "Requests in plain English and the calendar entry they ask for, as exact JSON. "
    "Ships with the hub; registry/datasets/starter/calendar.py makes it."
)
_TRIES = 5  # of two requests for the same name, each loses at most once a round

type Split = Callable[[Path, Path, Reader], dict[str, int]]


def register_dataset(
    name: str,
    source: Path,
    description: str = "",
    *,
    origin: str | None = None,
    columns: Mapping[str, str] | None = None,
    progress: Progress = SILENT,
    names: Mapping[str, str] | None = None,
    hub: bool = False,
) -> Dataset:
    """Check the examples at `source`, snapshot them in storage and make their row.

    `source` is a JSONL, JSON, Parquet or CSV file, perhaps compressed, which is split 80/10/10 by a
    hash of each example, or a folder with files for train, valid and perhaps test. The name's newest revision is returned
    when it has the same bytes; other bytes make its next revision. `origin` is what the row says
    about where it came from, when that is not the path; `columns` maps the names that training
    reads to the source's own, `names` its files' names to those by which a person knows them. A
    folder from a model `hub` may lack a split, which is taken from the training examples then.

    Raises Invalid (BadExamples with line numbers), and NotFound.
    """
    check(name, columns)
    if not source.exists():
        raise NotFound(f"There is nothing at {source}.")
    return _register(
        name,
        source,
        description,
        str(source.absolute()) if origin is None else origin,
        Reader(columns=columns or {}, progress=progress, names=names or {}),
        split_hub_files if hub else write_splits,
    )


def register_hub_dataset(
    name: str,
    hub_id: str,
    description: str = "",
    *,
    columns: Mapping[str, str] | None = None,
    progress: Progress = SILENT,
    folder: Path | None = None,
) -> Dataset:
    """Register the data files of `hub:OWNER/NAME[@REVISION]`; none of its code is run.

    They are downloaded to `folder`, where a later call continues, or to a new one. It is removed
    once they are registered or refused. Raises what `register_dataset` raises, and Unavailable
    when the hub cannot be reached.
    """
    from registry.datasets.hub_files import download

    check(name, columns)
    reader = Reader(columns=columns or {}, progress=progress)
    place = folder or paths.staging_dir("hub-dataset")
    progress.stage("Downloading")
    try:
        origin, source = download(hub_id, place, progress.part)
        made = _register(name, source, description, origin, reader, split_hub_files)
    except Exception as error:
        if folder is None or not isinstance(error, Unavailable):
            artifacts.discard(place)
        raise
    artifacts.discard(place)
    return made


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
        with path.open("rb") as file:
            skip(file, offset)
            return [json.loads(line) for line in islice(file, limit)]
    except FileNotFoundError:
        raise NotFound(f"The snapshot of {dataset.name} is missing from storage.") from None


def check(name: str, columns: Mapping[str, str] | None = None) -> None:
    """Raises Invalid for a bad name, and for a field that no column can be mapped to."""
    try:
        validate_name(name)
    except ValidationError as error:
        raise Invalid(" ".join(error.messages)) from None
    check_columns(columns or {})


def check_columns(columns: Mapping[str, str]) -> None:
    """Raises Invalid for a field that no column can be mapped to."""
    if unknown := sorted(set(columns) - set(COLUMNS)):
        raise Invalid(f"{unknown[0]!r} cannot be mapped; use one of {', '.join(COLUMNS)}.")


def _register(
    name: str,
    source: Path,
    description: str,
    origin: str,
    reader: Reader,
    split: Split,
) -> Dataset:
    staging = paths.staging_dir("dataset")
    try:
        reader.progress.stage("Reading the examples")
        counts = split(source, staging, reader)
        reader.progress.stage("Computing checksums")
        manifest = artifacts.seal(staging)
        found = reader.check()
        return _store(
            staging,
            manifest,
            Dataset(
                name=name,
                description=description,
                source=origin[:500],
                format=found,
                schema=reader.schema(),
                splits=counts,
                token_stats=_sizes(reader, counts),
            ),
            reader.progress,
        )
    finally:
        artifacts.discard(staging)


def keep_next(staging: Path, dataset: Dataset, progress: Progress = SILENT) -> Dataset:
    """Keep the files in `staging` as the revision after `dataset.previous`. Raises Conflict when
    that is not the newest any more."""
    return _store(staging, artifacts.seal(staging), dataset, progress, after=dataset.previous)


def _store(
    staging: Path,
    manifest: artifacts.Manifest,
    dataset: Dataset,
    progress: Progress,
    after: Dataset | None = None,
) -> Dataset:
    """Insert the row and move the snapshot in one transaction, or return the row that has both."""
    target = paths.dataset_dir(manifest.sha256)
    dataset.path = paths.relative(target)
    dataset.checksum = manifest.sha256
    dataset.size_bytes = manifest.size_bytes
    dataset.schema = dataset.schema | labels.counted(dataset, staging)
    for _ in range(_TRIES):
        existing = revisions.newest_named(dataset.name)
        if after is not None and existing != after:
            raise Conflict(f"{dataset.name} got another revision in the meantime; change that one.")
        if existing and existing.checksum == manifest.sha256:
            artifacts.put(staging, manifest, target)  # heals a snapshot that was lost or damaged
            if existing.schema != dataset.schema:  # the same examples come from other columns
                existing.schema = dataset.schema
                existing.save(update_fields=["schema"])
            return existing
        if existing:
            progress.stage("Comparing with the previous revision")
            _follow(dataset, existing, staging)
        try:
            with transaction.atomic():
                dataset.save(force_insert=True)
                artifacts.put(staging, manifest, target)
            return dataset
        except IntegrityError:  # another request registered it since we looked
            dataset.pk = None
    raise Conflict(f"{dataset.name} is being registered by another request; try again.")


def _follow(dataset: Dataset, previous: Dataset, staging: Path) -> None:
    """Make `dataset`, whose files are in `staging`, the revision after `previous`."""
    dataset.name = previous.name
    dataset.revision = previous.revision + 1
    dataset.previous = previous
    dataset.description = dataset.description or previous.description
    before = dataset_path(previous)
    dataset.changes = revisions.differences(before, staging) if before.is_dir() else {}


def _sizes(reader: Reader, counts: dict[str, int]) -> dict[str, float | int]:
    """Lengths in characters: tokens depend on the base model, which is not known here."""
    examples = sum(counts.values())
    return {
        "characters": reader.characters,
        "characters_per_example": round(reader.characters / examples, 1),
        "longest_characters": reader.longest,
    }
