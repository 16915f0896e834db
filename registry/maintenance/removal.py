"""Removing a model: archived when it has versions, deleted when it has none or by force."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from registry.audit import Action, audit
from registry.errors import Conflict, Damaged, Invalid
from registry.maintenance import archive, gc
from registry.mlflow import tracking
from registry.models import BaseModel, Dataset, Model, ModelVersion
from registry.storage import paths
from registry.storage.sizes import human


@dataclass(frozen=True)
class Removal:
    """The outcome for a model. `kept_active` says which versions could not move, and why."""

    outcome: Literal["archived", "restored", "deleted"]
    name: str
    freed_bytes: int = 0
    kept_active: list[str] = field(default_factory=list)


def remove_model(model: Model, force: str | None = None) -> Removal:
    """Archive a model that has versions; delete one without, or any when `force` is its name.

    Safe to repeat after a crash. Raises Invalid when `force` is another name, and Conflict while
    a job of the model waits or runs, or when something else was made from its versions.
    """
    if force is not None and force != model.name:
        raise Invalid(f"To delete {model.name} with its versions, type its exact name.")
    if force is None and model.versions.exists():
        return _archive(model)
    return _delete(model, forced=force is not None)


def archive_model(model: Model) -> Removal:
    """Archive a model with its versions. Raises Conflict when it has none: it would be deleted."""
    if not model.versions.exists():
        raise Conflict(f"{model} has no versions to archive.")
    return _archive(model)


def unarchive_model(model: Model) -> Removal:
    """Restore the versions that were archived with the model, then show and serve it.

    A version that was archived by itself before stays there. The model is shown last, so that
    after a crash the call can be repeated. Raises Conflict when it is not archived.
    """
    if not Model.objects.filter(pk=model.pk).exclude(archived_at=None).exists():
        raise Conflict(f"{model} is not archived.")
    archive.finish_moves(model)
    kept = []
    for version in model.versions.filter(
        status=ModelVersion.Status.ARCHIVED, archived_with_model=True
    ):
        try:
            archive.restore_version(version)
        except Damaged as damage:
            kept.append(str(damage))
    with transaction.atomic():
        Model.objects.filter(pk=model.pk).update(archived_at=None)
        audit(Action.MODEL_RESTORED, model)
    model.refresh_from_db()
    return Removal("restored", model.name, kept_active=kept)


def remove_dataset(dataset: Dataset) -> None:
    """Delete a data set with all its revisions and files. Raises Conflict when a job, a sweep or a
    version was made with one of them: lineage would name what is gone."""
    with transaction.atomic():
        named = Dataset.objects.select_for_update().filter(name__iexact=dataset.name)
        rows = list(named.order_by("-revision"))
        for row in rows:
            if users := _users(row):
                raise Conflict(f"{row} is used by {users}, so it was not deleted.")
        for row in rows:  # the newest first: each protects the one before it
            row.delete()
        if rows:
            audit(Action.DATASET_DELETED, dataset.name, f"{len(rows)} revision(s)")
    for row in rows:
        gc.remove_unnamed(row.path)
        gc.remove_unnamed(f"tokens/{row.checksum}")


def _users(dataset: Dataset) -> str:
    """What was made with the data set, in words; "" when nothing was."""
    if version := dataset.versions.select_related("model").first():
        return str(version)
    if job := dataset.jobs.first():
        return f"job {job.pk}"
    if sweep := dataset.sweeps.first():
        return f"the sweep {sweep}"
    return ""


def _archive(model: Model) -> Removal:
    with transaction.atomic():
        row = Model.objects.select_for_update().get(pk=model.pk)
        _refuse_live_jobs(row)
        if Model.objects.filter(pk=row.pk, archived_at=None).update(archived_at=timezone.now()):
            audit(Action.MODEL_ARCHIVED, row)
    model.refresh_from_db()
    archive.finish_moves(model)
    kept = []
    for version in model.versions.ready():
        try:
            archive.archive_version(version, with_model=True)
        except Damaged as damage:
            kept.append(str(damage))
    return Removal("archived", model.name, kept_active=kept)


def _delete(model: Model, *, forced: bool) -> Removal:
    """Rows first and files after: what a crash leaves between is an orphan that gc lists. MLflow
    retires the experiment when the outbox delivers that, which may be much later."""
    archive.finish_moves(model)
    with transaction.atomic():
        row = Model.objects.select_for_update().get(pk=model.pk)
        _refuse_live_jobs(row)
        versions = ModelVersion.objects.select_for_update().filter(model=row)
        if not forced and versions.exists():
            raise Conflict(f"{row} got a version in the meantime, so it was not deleted.")
        _refuse_descendants(row)
        freed = sum(versions.values_list("size_bytes", flat=True))
        places = {
            paths.relative(paths.version_dir(row.name, number, archived=archived))
            for number in versions.values_list("version", flat=True)
            for archived in (False, True)
        }
        jobs = row.jobs.all()
        job_ids = list(jobs.values_list("pk", flat=True))
        places |= {paths.relative(paths.job_dir(pk)) for pk in job_ids}
        tracking.model_deleted(row, job_ids, versions.values_list("pk", flat=True))
        jobs.delete()
        row.alias_moves.all().delete()
        row.aliases.all().delete()
        ModelVersion.objects.filter(model=row).update(parent=None)
        ModelVersion.objects.filter(model=row).delete()
        audit(Action.MODEL_DELETED, model, f"{len(places)} folders, {human(freed)} of versions")
        row.delete()
    for place in sorted(places):
        gc.remove_unnamed(place)
    return Removal("deleted", model.name, freed_bytes=freed)


def _refuse_live_jobs(model: Model) -> None:
    live = model.jobs.filter(status__in=("queued", "running")).values_list("pk", flat=True)
    if numbers := ", ".join(str(pk) for pk in live):
        raise Conflict(f"Job {numbers} of {model} is queued or running; cancel it first.")


def _refuse_descendants(model: Model) -> None:
    children = ModelVersion.objects.filter(~Q(model=model), parent__model=model)
    if child := children.select_related("model").first():
        raise Conflict(f"{child} continues training from a version of {model}; delete it first.")
    if base := BaseModel.objects.filter(fused_version__model=model).first():
        raise Conflict(f"The base model {base} was fused from {model}; delete it first.")
