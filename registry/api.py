"""The registry over JSON: base models, models, versions, aliases and data sets."""

# No `from __future__ import annotations`: ninja resolves texts in the module of `paginate`, and fails.

from typing import Annotated, Any

from django.core.exceptions import RequestDataTooBig
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Query, Router, Status
from ninja.pagination import LimitOffsetPagination, paginate
from pydantic import BaseModel as Fields
from pydantic import Field, ValidationError

from registry import bases, tracking
from registry.datasets import read_examples
from registry.errors import Invalid, NotFound
from registry.models import AliasMove, BaseModel, Dataset, Model, ModelVersion
from registry.overview import find_models
from registry.registration import register_model
from registry.schemas import (
    AliasIn,
    AliasMoveOut,
    BaseIn,
    BaseOut,
    DatasetIn,
    DatasetOut,
    EvaluationIn,
    ExamplesOut,
    ModelDetail,
    ModelIn,
    ModelOut,
    RunOut,
    UploadIn,
    VersionOut,
)
from registry.uploads import register_examples, register_upload
from registry.versions import move_alias, record_evaluation

router = Router(tags=["registry"])

_VERSIONS_SHOWN = 50
_DATASET_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": DatasetIn.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "file"],
                    "properties": {
                        "name": {"type": "string"},
                        "description": {"type": "string"},
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": (
                                "One JSONL file, which is split; or train.jsonl, valid.jsonl "
                                "and perhaps test.jsonl"
                            ),
                        },
                    },
                }
            },
        },
    }
}


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
    newest = list(_versions(found)[:_VERSIONS_SHOWN])
    found._prefetched_objects_cache["versions"] = newest  # type: ignore[attr-defined]
    return found


@router.get(
    "/models/{int:model_id}/versions", response=list[VersionOut], summary="Versions, highest first"
)
@paginate(LimitOffsetPagination)
def versions(
    request: HttpRequest, model_id: int, status: ModelVersion.Status | None = None
) -> QuerySet[ModelVersion]:
    """All versions of a model, with their lineage."""
    found = _versions(get_object_or_404(Model, pk=model_id))
    return found.filter(status=status) if status else found


@router.get("/models/{int:model_id}/history", response=list[RunOut], summary="MLflow runs")
def history(request: HttpRequest, model_id: int) -> list[dict[str, Any]]:
    """The newest 100 runs, read from MLflow. 503 when it does not answer in time."""
    return tracking.history(get_object_or_404(Model, pk=model_id))


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
    found = get_object_or_404(_versions(get_object_or_404(Model, pk=model_id)), version=version)
    return record_evaluation(found, payload.metrics)


@router.get("/datasets", response=list[DatasetOut], summary="Data sets, newest first")
@paginate(LimitOffsetPagination)
def datasets(request: HttpRequest, q: str = "") -> QuerySet[Dataset]:
    """`q` is part of the name or description."""
    return Dataset.objects.filter(Q(name__icontains=q) | Q(description__icontains=q))


@router.post(
    "/datasets",
    response={201: DatasetOut},
    openapi_extra=_DATASET_BODY,
    summary="Register a data set",
)
def create_dataset(request: HttpRequest) -> Status[Dataset]:
    """Send JSONL files as multipart, or a few examples as JSON. Wrong examples are named by line;
    the same name with the same examples gives the data set that exists."""
    if request.content_type == "multipart/form-data":
        sent = _read(UploadIn, lambda: request.POST.dict())
        files = [file for key in request.FILES for file in request.FILES.getlist(key)]
        return Status(201, register_upload(sent.name, files, sent.description))
    given = _read(DatasetIn, lambda: request.body)
    return Status(201, register_examples(given.name, given.examples, given.description))


@router.get("/datasets/{int:dataset_id}", response=DatasetOut, summary="A data set")
def dataset(request: HttpRequest, dataset_id: int) -> Dataset:
    """Its format, counts and checksum."""
    return get_object_or_404(Dataset, pk=dataset_id)


@router.get(
    "/datasets/{int:dataset_id}/examples", response=ExamplesOut, summary="Examples of a split"
)
def examples(
    request: HttpRequest,
    dataset_id: int,
    split: str = "train",
    limit: Annotated[int, Field(ge=1, le=200)] = 20,
    offset: Annotated[int, Field(ge=0)] = 0,
) -> dict[str, Any]:
    """As they were sent, in their order."""
    found = get_object_or_404(Dataset, pk=dataset_id)
    items = read_examples(found, split, offset, limit)
    return {"split": split, "items": items, "count": found.splits[split]}


@router.get("/bases", response=list[BaseOut], summary="Base models")
@paginate(LimitOffsetPagination)
def base_models(request: HttpRequest) -> QuerySet[BaseModel]:
    """What models can be fine-tuned from; each answers as `base:NAME`."""
    return BaseModel.objects.all()


@router.post("/bases", response={201: BaseOut}, summary="Import the bundled base model")
def create_base(request: HttpRequest, payload: BaseIn) -> Status[BaseModel]:
    """Takes seconds the first time; afterwards it gives what is there."""
    return Status(201, bases.register_starter())


def _versions(found: Model) -> QuerySet[ModelVersion]:
    related = found.versions.newest_first().select_related("dataset", "base_model", "parent")
    return related.prefetch_related("aliases")


def _read[T: Fields](fields: type[T], body: Any) -> T:
    """The body as `fields`. Raises Invalid, since ninja reads only one type of body itself."""
    try:
        content = body()
        return (
            fields.model_validate_json(content)
            if isinstance(content, bytes)
            else fields.model_validate(content)
        )
    except RequestDataTooBig:
        raise Invalid("The JSON is too large; upload the examples as a JSONL file.") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"{place or 'body'}: {first['msg']}") from None
