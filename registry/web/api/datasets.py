"""Data sets over JSON."""

# No `from __future__ import annotations`: ninja resolves texts in the module of `paginate`, and fails.

import json
from typing import Annotated, Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Status
from ninja.pagination import paginate
from pydantic import BaseModel as Fields
from pydantic import Field, ValidationError

from registry.background import work
from registry.datasets import uploads
from registry.datasets.examination import find_report
from registry.datasets.revisions import newest
from registry.datasets.snapshots import read_examples
from registry.datasets.tasks import start_examine, start_hub, start_staged, start_upload
from registry.datasets.uploads import register_examples
from registry.errors import Invalid, NotFound, explain
from registry.maintenance.removal import remove_dataset
from registry.models import BaseModel as Base
from registry.models import Dataset, DatasetReport, DatasetTask
from registry.web.paging import LimitOffset
from registry.web.schemas import (
    ChangesOut,
    DatasetIn,
    DatasetOut,
    DatasetTaskOut,
    ExamplesOut,
    HubDatasetIn,
    ReportIn,
    ReportOut,
    StagedDatasetIn,
    UploadIn,
)

router = Router(tags=["data sets"])

_DATASET_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        DatasetIn.model_json_schema(),
                        HubDatasetIn.model_json_schema(),
                        StagedDatasetIn.model_json_schema(),
                    ]
                }
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "file"],
                    "properties": {
                        "name": {"type": "string"},
                        "description": {"type": "string"},
                        "columns": {
                            "type": "string",
                            "description": (
                                'Which column holds what training reads, as JSON: {"prompt": "ask"}'
                            ),
                        },
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": (
                                "One JSONL, JSON, Parquet or CSV file, perhaps compressed (.gz, .zst), which is "
                                "split; or files for train, valid and perhaps test, named so"
                            ),
                        },
                    },
                }
            },
        },
    }
}


@router.get("/datasets", response=list[DatasetOut], summary="Data sets, newest first")
@paginate(LimitOffset)
def datasets(request: HttpRequest, q: str = "", all_revisions: bool = False) -> QuerySet[Dataset]:
    """`q` is part of the name or description."""
    rows = Dataset.objects.all() if all_revisions else newest()
    return rows.filter(Q(name__icontains=q) | Q(description__icontains=q))


@router.post(
    "/datasets",
    response={201: DatasetOut, 202: DatasetTaskOut},
    openapi_extra=_DATASET_BODY,
    summary="Register a data set",
)
def create_dataset(request: HttpRequest) -> Status[Dataset | DatasetTask]:
    """Send files as multipart, or a few examples, a hub id or a preview's upload as JSON. Wrong examples are named by
    line. A known name gets its next revision; with the same examples, the one that exists. 202
    means that large files or a hub id are processed in the background: poll the task."""
    if request.content_type == "multipart/form-data":
        sent = read_body(UploadIn, lambda: request.POST.dict())
        files = [file for key in request.FILES for file in request.FILES.getlist(key)]
        made = start_upload(sent.name, files, sent.description, sent.columns)
        return Status(201 if isinstance(made, Dataset) else 202, made)
    names = _names(request)
    if "upload" in names:
        staged = read_body(StagedDatasetIn, lambda: request.body)
        saved = uploads.staged(staged.upload)
        made = start_staged(staged.name, saved, staged.description, staged.columns)
        return Status(201 if isinstance(made, Dataset) else 202, made)
    if "hub" in names:
        hub = read_body(HubDatasetIn, lambda: request.body)
        return Status(202, start_hub(hub.name, hub.hub, hub.description, hub.columns))
    given = read_body(DatasetIn, lambda: request.body)
    return Status(201, register_examples(given.name, given.examples, given.description))


@router.get("/datasets/tasks", response=list[DatasetTaskOut], summary="Tasks, newest first")
@paginate(LimitOffset)
def tasks(request: HttpRequest) -> QuerySet[DatasetTask]:
    """Large data sets being registered or examined, and earlier tasks."""
    return DatasetTask.objects.up_to_date()


@router.get("/datasets/tasks/{int:task_id}", response=DatasetTaskOut, summary="One task")
def task(request: HttpRequest, task_id: int) -> DatasetTask:
    """Its progress, its result, or why it failed."""
    return get_object_or_404(DatasetTask.objects.up_to_date(), pk=task_id)


@router.post(
    "/datasets/tasks/{int:task_id}/retry", response={202: DatasetTaskOut}, summary="Retry a task"
)
def retry_task(request: HttpRequest, task_id: int) -> Status[DatasetTask]:
    """For a task whose process was killed, or whose hub could not be reached."""
    return Status(202, work.retry(get_object_or_404(DatasetTask, pk=task_id)))


@router.get("/datasets/{int:dataset_id}", response=DatasetOut, summary="A data set")
def dataset(request: HttpRequest, dataset_id: int) -> Dataset:
    """Its format, counts and checksum."""
    return get_object_or_404(Dataset, pk=dataset_id)


@router.delete("/datasets/{int:dataset_id}", response={204: None}, summary="Delete a data set")
def delete_dataset(request: HttpRequest, dataset_id: int) -> Status[None]:
    """With all its revisions. 409 when a job, a sweep or a version was made with one of them."""
    remove_dataset(get_object_or_404(Dataset, pk=dataset_id))
    return Status(204, None)


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
    """As training reads them, in their order."""
    found = get_object_or_404(Dataset, pk=dataset_id)
    items = read_examples(found, split, offset, limit)
    return {"split": split, "items": items, "count": found.splits[split]}


@router.get(
    "/datasets/{int:dataset_id}/changes", response=ChangesOut, summary="What a revision changed"
)
def changes(request: HttpRequest, dataset_id: int) -> Dataset:
    """Examples added, removed and kept by split, with a few of them; empty for the first."""
    return get_object_or_404(Dataset, pk=dataset_id)


@router.get(
    "/datasets/{int:dataset_id}/report", response=ReportOut, summary="The newest examination"
)
def report(
    request: HttpRequest,
    dataset_id: int,
    base_model_id: int | None = None,
    max_seq_length: int | None = None,
) -> DatasetReport:
    """Leaks, duplicates, lengths against the limit, and examples as the model reads them."""
    base = get_object_or_404(Base, pk=base_model_id) if base_model_id is not None else None
    found = find_report(get_object_or_404(Dataset, pk=dataset_id), base, max_seq_length)
    if found is None:
        raise NotFound(
            "This data set has not been examined with these settings; POST here to do it."
        )
    return found


@router.post(
    "/datasets/{int:dataset_id}/report",
    response={201: ReportOut, 202: DatasetTaskOut},
    summary="Examine a data set",
)
def make_report(
    request: HttpRequest, dataset_id: int, payload: ReportIn
) -> Status[DatasetReport | DatasetTask]:
    """Tokens are counted over a sample of 2,000 examples per split, all else over every line. 202
    means that a large one is examined in the background: poll the task, then get the report."""
    found = get_object_or_404(Dataset, pk=dataset_id)
    base = get_object_or_404(Base, pk=payload.base_model_id)
    made = start_examine(found, base, payload.max_seq_length)
    return Status(202 if isinstance(made, DatasetTask) else 201, made)


def _names(request: HttpRequest) -> set[str]:
    """The fields of the JSON body, which say what is asked. What is no JSON is refused later."""
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        return set()
    return set(body) if isinstance(body, dict) else set()


def read_body[T: Fields](fields: type[T], body: Any) -> T:
    """A body as `fields`. Raises Invalid, since ninja reads only one type of body itself."""
    try:
        content = body()
        return (
            fields.model_validate_json(content)
            if isinstance(content, bytes)
            else fields.model_validate(content)
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise Invalid(explain([{**first, "loc": first["loc"] or ("body",)}])) from None
