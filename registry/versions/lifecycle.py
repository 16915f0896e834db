"""The life of a version: started with its lineage, completed with its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction

from registry.errors import Conflict, Damaged, Invalid
from registry.models import Dataset, Model, ModelVersion
from registry.storage import artifacts, paths
from registry.storage.checks import require_sound
from registry.versions import lineage, numbering

_ATTEMPTS = 10


def begin_version(
    model: Model,
    dataset: Dataset,
    config: dict[str, Any],
    seed: int,
    parent: ModelVersion | None = None,
    number: str = "",
) -> ModelVersion:
    """Make the next version of `model`, in status training, with all of its lineage. It has the
    chosen `number`, or where that is empty or already taken, the proposed one.

    Raises Invalid when `parent` belongs to another base model.
    """
    base = model.base_model
    if parent is not None and parent.base_model_id != base.pk:
        raise Invalid(f"{parent} was trained on {parent.base_model}, {model} is based on {base}.")
    origin = lineage.collect()
    for _ in range(_ATTEMPTS):
        settled, notes = numbering.settle(model, dataset, config, number)
        version = ModelVersion(
            model=model,
            version=settled,
            notes=notes,
            git_commit=origin.git_commit,
            git_dirty=origin.git_dirty,
            git_diff=origin.git_diff,
            dataset=dataset,
            labels=list(dataset.labels),
            dataset_checksum=dataset.checksum,
            base_model=base,
            base_checksum=base.manifest_sha256,
            parent=parent,
            params=config,
            seed=seed,
            packages=origin.packages,
            hardware=origin.hardware,
        )
        try:
            with transaction.atomic():
                version.save()
        except IntegrityError:  # another process took the number since we looked
            continue
        return version
    raise Conflict(f"Other versions of {model} are being made at the same time; try again.")


def complete_version(version: ModelVersion, staging: Path, metrics: dict[str, Any]) -> ModelVersion:
    """Publish the files in `staging` as the version's and make it ready.

    Safe to repeat: after a crash at any point a second call with the same `staging` (which may be
    gone by then, when the crash came after the rename) finishes the work. Raises Conflict when
    the version failed or is ready with other files, Damaged when there are no files to publish.
    """
    target = paths.version_dir(version.model.name, version.version)
    manifest = artifacts.seal(staging) if staging.exists() else _published(target, version)
    # The row stays locked over the rename, so that the files of a ready version are never replaced.
    with transaction.atomic():
        row = ModelVersion.objects.select_for_update().get(pk=version.pk)
        if row.status == ModelVersion.Status.TRAINING:
            if staging.exists():
                artifacts.put(staging, manifest, target)
            ModelVersion.objects.filter(pk=row.pk, status=ModelVersion.Status.TRAINING).update(
                status=ModelVersion.Status.READY,
                metrics=metrics,
                artifact_path=paths.relative(target),
                manifest_sha256=manifest.sha256,
                size_bytes=manifest.size_bytes,
            )
        elif row.manifest_sha256 != manifest.sha256:
            raise Conflict(f"{row} is {row.status}; it cannot be completed again.")
    artifacts.discard(staging)
    version.refresh_from_db()
    return version


def _published(target: Path, version: ModelVersion) -> artifacts.Manifest:
    """What an interrupted call left at `target`, read through once more."""
    if not target.exists():
        raise Damaged(f"There are no files for {version}.")
    return require_sound(target, None, str(version))


def fail_version(version: ModelVersion) -> None:
    """Mark a version whose training failed. One that is no longer training is left as it is."""
    ModelVersion.objects.filter(pk=version.pk, status=ModelVersion.Status.TRAINING).update(
        status=ModelVersion.Status.FAILED
    )
    version.refresh_from_db()


def record_evaluation(version: ModelVersion, metrics: dict[str, float]) -> ModelVersion:
    """Add what was measured after training, such as `exact_match`.

    A metric is recorded once. Raises Conflict when one would change, or when the version is not
    ready.
    """
    with transaction.atomic():
        row = ModelVersion.objects.select_for_update().get(pk=version.pk)
        if row.status != ModelVersion.Status.READY:
            raise Conflict(f"{row} is {row.status}; only a ready version can be evaluated.")
        if changed := sorted(k for k, v in metrics.items() if row.metrics.get(k, v) != v):
            raise Conflict(
                f"{row} already has other values for {', '.join(changed)}; use another name."
            )
        row.metrics |= metrics
        row.save(update_fields=["metrics"])
    version.refresh_from_db()
    return version


def record_scores(
    version: ModelVersion, metrics: dict[str, float], evaluation: dict[str, Any]
) -> None:
    """Keep how the hub itself scored a version after training. Safe to repeat: the first stays."""
    with transaction.atomic():
        row = ModelVersion.objects.select_for_update().get(pk=version.pk)
        if not row.evaluation:
            row.metrics = metrics | row.metrics
            row.evaluation = evaluation
            row.save(update_fields=["metrics", "evaluation"])
    version.refresh_from_db()


def write_notes(version: ModelVersion, notes: str) -> ModelVersion:
    """Replace a person's notes on a version, whatever its status."""
    version.notes = notes.strip()
    version.save(update_fields=["notes"])
    return version
