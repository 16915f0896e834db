"""Data sets over JSON."""

# No `from __future__ import annotations`: ninja resolves texts in the module of `paginate`, and fails.

from typing import Annotated, Any

from django.core.exceptions import RequestDataTooBig
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Status
from ninja.pagination import LimitOffsetPagination, paginate
from pydantic import BaseModel as Fields
from pydantic import Field, ValidationError

from registry.datasets import read_examples
from registry.errors import Invalid
from registry.models import Dataset
from registry.schemas import DatasetIn, DatasetOut, ExamplesOut, UploadIn
from registry.uploads import register_examples, register_upload

router = Router(tags=["data sets"])

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
