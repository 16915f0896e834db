"""Versions over JSON."""

# No `from __future__ import annotations`: ninja resolves texts in the module of `paginate`, and fails.

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router
from ninja.pagination import paginate

from registry.models import Model, ModelVersion
from registry.versions.lifecycle import record_evaluation, write_notes
from registry.web.paging import LimitOffset
from registry.web.schemas import EvaluationIn, NotesIn, VersionOut

router = Router(tags=["versions"])


def versions_of(found: Model) -> QuerySet[ModelVersion]:
    related = found.versions.newest_first().select_related("dataset", "base_model", "parent")
    return related.prefetch_related("aliases")


@router.get(
    "/models/{int:model_id}/versions", response=list[VersionOut], summary="Versions, highest first"
)
@paginate(LimitOffset)
def versions(
    request: HttpRequest, model_id: int, status: ModelVersion.Status | None = None
) -> QuerySet[ModelVersion]:
    """All versions of a model, with their lineage."""
    found = versions_of(get_object_or_404(Model, pk=model_id))
    return found.filter(status=status) if status else found


@router.get("/models/{int:model_id}/versions/{version}", response=VersionOut, summary="A version")
def version(request: HttpRequest, model_id: int, version: str) -> ModelVersion:
    """With its lineage, whatever its status."""
    return get_object_or_404(versions_of(get_object_or_404(Model, pk=model_id)), version=version)


@router.patch(
    "/models/{int:model_id}/versions/{version}", response=VersionOut, summary="Write notes"
)
def notes(request: HttpRequest, model_id: int, version: str, payload: NotesIn) -> ModelVersion:
    """Notes are all of a version that a person changes."""
    found = get_object_or_404(versions_of(get_object_or_404(Model, pk=model_id)), version=version)
    return write_notes(found, payload.notes)


@router.get(
    "/models/{int:model_id}/versions/{version}/evaluation",
    response=dict[str, Any],
    summary="Sample answers",
)
def sample_answers(request: HttpRequest, model_id: int, version: str) -> dict[str, Any]:
    """How the version was scored on the test split beside its base, with some of their answers;
    empty when it was not."""
    found = get_object_or_404(ModelVersion, model_id=model_id, version=version)
    answers: dict[str, Any] = found.evaluation
    return answers


@router.post(
    "/models/{int:model_id}/versions/{version}/metrics",
    response=VersionOut,
    summary="Record an evaluation",
)
def evaluation(
    request: HttpRequest, model_id: int, version: str, payload: EvaluationIn
) -> ModelVersion:
    """Adds figures measured after training. A figure is recorded once and does not change."""
    found = get_object_or_404(versions_of(get_object_or_404(Model, pk=model_id)), version=version)
    return record_evaluation(found, payload.metrics)
