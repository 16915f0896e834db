"""Models over JSON."""

# No `from __future__ import annotations`: ninja resolves texts in the module of `paginate`, and fails.

from typing import Annotated, Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Query, Router, Status
from ninja.pagination import LimitOffsetPagination, paginate

from registry import bases, tracking
from registry.api.versions import versions_of
from registry.models import Model
from registry.overview import find_models
from registry.registration import register_model
from registry.schemas import ModelDetail, ModelIn, ModelOut, RunOut

router = Router(tags=["models"])

_VERSIONS_SHOWN = 50


@router.get("/models", response=list[ModelOut], summary="Models, newest first")
@paginate(LimitOffsetPagination)
def models(
    request: HttpRequest,
    q: Annotated[str, Query(description="Part of the name, description or a tag")] = "",
    task_type: Model.TaskType | None = None,
) -> QuerySet[Model]:
    """Page with `limit` and `offset`; `count` is how many there are."""
    return find_models(q=q, task=task_type or "")


@router.post("/models", response={201: ModelOut}, summary="Register a model")
def create_model(request: HttpRequest, payload: ModelIn) -> Status[Model]:
    """Its MLflow experiment comes first: 503 and nothing made when the server is down."""
    base = bases.find_base(payload.base_model)
    model = register_model(payload.name, base, payload.task_type, payload.description, payload.tags)
    return Status(201, find_models().get(pk=model.pk))


@router.get("/models/{int:model_id}", response=ModelDetail, summary="A model and its versions")
def model(request: HttpRequest, model_id: int) -> Model:
    """With the 50 highest versions."""
    found: Model = get_object_or_404(find_models(), pk=model_id)
    newest = list(versions_of(found)[:_VERSIONS_SHOWN])
    found._prefetched_objects_cache["versions"] = newest  # type: ignore[attr-defined]
    return found


@router.get("/models/{int:model_id}/history", response=list[RunOut], summary="MLflow runs")
def history(request: HttpRequest, model_id: int) -> list[dict[str, Any]]:
    """The newest 100 runs, read from MLflow. 503 when it does not answer in time."""
    return tracking.history(get_object_or_404(Model, pk=model_id))
