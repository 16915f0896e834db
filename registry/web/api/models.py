"""Models over JSON."""

# No `from __future__ import annotations`: ninja resolves texts in the module of `paginate`, and fails.

from typing import Annotated, Any, Literal

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from ninja import Query, Router, Status
from ninja.pagination import paginate

from registry.bases import registration
from registry.catalog import card
from registry.catalog.overview import find_models
from registry.catalog.registration import register_model, update_model
from registry.maintenance import removal
from registry.mlflow import tracking
from registry.models import Model
from registry.web.api.versions import versions_of
from registry.web.paging import LimitOffset
from registry.web.schemas import ModelChanges, ModelDetail, ModelIn, ModelOut, RemovalOut, RunOut

router = Router(tags=["models"])

_VERSIONS_SHOWN = 50


@router.get("/models", response=list[ModelOut], summary="Models, newest first")
@paginate(LimitOffset)
def models(
    request: HttpRequest,
    q: Annotated[str, Query(description="Part of the name, description or a tag")] = "",
    task_type: Model.TaskType | None = None,
    base: Annotated[str, Query(description="Name of the base model")] = "",
    tag: Annotated[str, Query(description="A whole tag")] = "",
    status: Literal["active", "archived", "all"] = "active",
    sort: Literal["new", "name", "versions", "active"] = "new",
) -> QuerySet[Model]:
    """Page with `limit` and `offset`; `count` is how many there are."""
    return find_models(q, task_type or "", base, tag, status, sort)


@router.post("/models", response={201: ModelOut}, summary="Register a model")
def create_model(request: HttpRequest, payload: ModelIn) -> Status[Model]:
    """Its MLflow experiment comes first: 503 and nothing created when the server is down."""
    base = registration.find_base(payload.base_model)
    model = register_model(payload.name, base, payload.task_type, payload.description, payload.tags)
    return Status(201, find_models().get(pk=model.pk))


@router.get("/models/{int:model_id}", response=ModelDetail, summary="A model and its versions")
def model(request: HttpRequest, model_id: int) -> Model:
    """With the 50 highest versions."""
    found: Model = get_object_or_404(find_models(status="all"), pk=model_id)
    newest = list(versions_of(found)[:_VERSIONS_SHOWN])
    found._prefetched_objects_cache["versions"] = newest  # type: ignore[attr-defined]
    return found


@router.patch("/models/{int:model_id}", response=ModelOut, summary="Change a model")
def change_model(request: HttpRequest, model_id: int, payload: ModelChanges) -> Model:
    """Description, task, tags and your words on the card. The name stays: clients use it."""
    found = get_object_or_404(Model, pk=model_id)
    update_model(found, **payload.model_dump(exclude_unset=True))
    return find_models(status="all").get(pk=model_id)


@router.delete("/models/{int:model_id}", response=RemovalOut, summary="Archive or delete a model")
def remove_model(
    request: HttpRequest,
    model_id: int,
    force: Annotated[str | None, Query(description="The model's exact name")] = None,
) -> removal.Removal:
    """Archives a model that has versions and deletes one that has none; with `force` all of its
    versions, jobs and files are deleted for good."""
    return removal.remove_model(get_object_or_404(Model, pk=model_id), force)


@router.get("/models/{int:model_id}/card", summary="The model card, in Markdown")
def model_card(request: HttpRequest, model_id: int) -> HttpResponse:
    """What the hub knows of the model, with your own words. Unknown things are said to be."""
    found = get_object_or_404(Model.objects.select_related("base_model"), pk=model_id)
    text = card.write_card(found, request.build_absolute_uri("/").rstrip("/"))
    return HttpResponse(text, content_type="text/markdown; charset=utf-8")


@router.get("/models/{int:model_id}/history", response=list[RunOut], summary="MLflow runs")
def history(request: HttpRequest, model_id: int) -> list[dict[str, Any]]:
    """The newest 100 runs, read from MLflow. 503 when it does not answer in time."""
    return tracking.history(get_object_or_404(Model, pk=model_id))
