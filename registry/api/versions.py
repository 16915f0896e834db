"""Versions and aliases over JSON."""

# No `from __future__ import annotations`: ninja resolves texts in the module of `paginate`, and fails.

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router
from ninja.pagination import LimitOffsetPagination, paginate

from registry.aliases import move_alias
from registry.errors import NotFound
from registry.models import AliasMove, Model, ModelVersion
from registry.schemas import AliasIn, AliasMoveOut, EvaluationIn, VersionOut
from registry.versions import record_evaluation

router = Router(tags=["versions"])


def versions_of(found: Model) -> QuerySet[ModelVersion]:
    related = found.versions.newest_first().select_related("dataset", "base_model", "parent")
    return related.prefetch_related("aliases")


@router.get(
    "/models/{int:model_id}/versions", response=list[VersionOut], summary="Versions, highest first"
)
@paginate(LimitOffsetPagination)
def versions(
    request: HttpRequest, model_id: int, status: ModelVersion.Status | None = None
) -> QuerySet[ModelVersion]:
    """All versions of a model, with their lineage."""
    found = versions_of(get_object_or_404(Model, pk=model_id))
    return found.filter(status=status) if status else found


@router.post(
    "/models/{int:model_id}/aliases/{name}", response=AliasMoveOut, summary="Move an alias"
)
def alias(request: HttpRequest, model_id: int, name: str, payload: AliasIn) -> AliasMove:
    """At once and whole: every request sees either the old version or the new one."""
    found = get_object_or_404(Model, pk=model_id)
    version = found.versions.filter(version=payload.version).first()
    if version is None:
        raise NotFound(f"{found} has no version {payload.version!r}.")
    token = getattr(request, "token", None)
    return move_alias(found, name, version, by=str(token or ""), reason=payload.reason)


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
