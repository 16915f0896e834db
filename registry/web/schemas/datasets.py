"""Data sets, their revisions, and what an examination found."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

from ninja import Schema
from pydantic import BaseModel, Field, Json

from registry.models import Dataset, DatasetReport
from registry.web.schemas.examples import SHA, TIME, answered, shown

_EXAMPLE = {
    "messages": [
        {"role": "user", "content": "Lunch with Ana on Friday at noon"},
        {"role": "assistant", "content": '{"title":"lunch with Ana","day":"friday"}'},
    ]
}


_DATASET: dict[str, Any] = {
    "id": 1,
    "name": "calendar-requests",
    "revision": 1,
    "description": "Requests and the calendar entry they ask for",
    "format": "chat",
    "fields": {"messages": "array of {role, content}"},
    "read_as": ["Chat messages (messages)"],
    "unused": ["id"],
    "files": {"train": ["train.jsonl"], "valid": ["val.jsonl"]},
    "notes": [
        "The valid split was read from val.jsonl.",
        "These columns are not used: id.",
    ],
    "splits": {"train": 900, "valid": 50, "test": 50},
    "labels": {},
    "statistics": {"characters": 324959, "longest_characters": 413},
    "checksum": SHA,
    "size_bytes": 325959,
    "source": "registry/starter",
    "created_at": TIME,
}


class DatasetIn(BaseModel):
    """Examples in any dialect of docs/datasets.md; they are split 80/10/10."""

    model_config = shown({"name": "calendar-requests", "examples": [_EXAMPLE]})

    name: Annotated[str, Field(min_length=1, max_length=100)]
    description: Annotated[str, Field(max_length=10_000)] = ""
    examples: Annotated[list[dict[str, Any]], Field(min_length=1)]


class UploadIn(BaseModel):
    """The text fields of a multipart upload."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    description: Annotated[str, Field(max_length=10_000)] = ""
    columns: Annotated[
        Json[dict[str, str]], Field(description="As JSON: which column holds what training reads")
    ] = {}


class HubDatasetIn(BaseModel):
    """A data set on a model hub; its JSONL, JSON, Parquet and CSV files are read, no code is run."""

    model_config = shown({"name": "questions", "hub": "hub:OWNER/NAME"})

    name: Annotated[str, Field(min_length=1, max_length=100)]
    description: Annotated[str, Field(max_length=10_000)] = ""
    hub: Annotated[str, Field(max_length=300, description="hub:OWNER/NAME or with @REVISION")]
    columns: Annotated[
        dict[str, str], Field(description="Which column holds a field that training reads")
    ] = {}


class DatasetOut(Schema):
    model_config = answered(_DATASET)

    id: int
    name: str
    revision: Annotated[int, Field(description="1 for the first with this name")]
    description: str
    format: str
    fields: Annotated[dict[str, Any], Field(description="What every example holds")]
    read_as: Annotated[list[str], Field(description="Dialects, with the fields that were read")]
    unused: Annotated[list[str], Field(description="Columns and fields that no training reads")]
    files: Annotated[dict[str, list[str]], Field(description='By split; "" for one that was split')]
    notes: Annotated[list[str], Field(description="What to know about how it was read")]
    splits: Annotated[dict[str, int], Field(description="Examples per split")]
    labels: Annotated[
        dict[str, dict[str, int]],
        Field(description="Of a classification set each label, with its examples by split"),
    ]
    statistics: Annotated[dict[str, Any], Field(description="Lengths in characters")]
    checksum: Annotated[str, Field(description="sha256 of the snapshot's manifest")]
    size_bytes: int
    source: str
    created_at: datetime.datetime

    @staticmethod
    def resolve_fields(row: Dataset) -> dict[str, Any]:
        fields: dict[str, Any] = row.schema.get("fields", {})
        return fields

    @staticmethod
    def resolve_statistics(row: Dataset) -> dict[str, Any]:
        statistics: dict[str, Any] = row.token_stats
        return statistics


class DatasetTaskOut(Schema):
    """A large data set being registered or examined. `dataset_id` is null until one is registered,
    `report_id` until one is examined; `staged` is the upload to preview, once a hub id that is
    previewed was downloaded."""

    model_config = answered(
        {
            "id": 1,
            "kind": "register",
            "name": "support-chats",
            "source": "Upload: chats.jsonl",
            "status": "running",
            "stage": "Reading the examples",
            "examples": 415000,
            "share": 0.41,
            "error_message": "",
            "problems": [],
            "dataset_id": None,
            "report_id": None,
            "staged": "",
            "created_at": TIME,
        }
    )

    id: int
    kind: str
    name: str
    source: str
    status: str
    stage: str
    examples: Annotated[int, Field(description="Read so far")]
    share: Annotated[float, Field(description="Of the stage that is done, 0 to 1")]
    error_message: str
    problems: Annotated[list[str], Field(description="Mistakes in examples, the first of them")]
    dataset_id: int | None
    report_id: int | None
    staged: str
    created_at: datetime.datetime


class ChangesOut(Schema):
    """How a revision differs from the one before."""

    model_config = answered(
        {
            "id": 2,
            "revision": 2,
            "previous_id": 1,
            "changes": {
                "train": {
                    "added": 2,
                    "removed": 1,
                    "kept": 899,
                    "added_examples": ['{"text": "new"}'],
                    "removed_examples": ['{"text": "old"}'],
                }
            },
        }
    )

    id: int
    revision: int
    previous_id: int | None
    changes: dict[str, Any]


class ReportIn(BaseModel):
    """What to examine a data set for."""

    model_config = shown({"base_model_id": 1, "max_seq_length": 2048})

    base_model_id: int
    max_seq_length: Annotated[int, Field(ge=8, le=1_048_576, description="Tokens")] = 2048


class ReportOut(Schema):
    """What the examination of a data set found."""

    model_config = answered(
        {
            "dataset_id": 1,
            "base_model_id": 1,
            "max_seq_length": 2048,
            "warnings": ["3 prompts of test occur in train too, 1 with the same answer."],
            "report": {"duplicates": {}, "leaks": [], "tokens": {}, "rendered": []},
            "created_at": TIME,
        }
    )

    dataset_id: int
    base_model_id: int
    max_seq_length: int
    warnings: list[str]
    report: dict[str, Any]
    created_at: datetime.datetime

    @staticmethod
    def resolve_warnings(row: DatasetReport) -> list[str]:
        from registry.datasets.examination import warnings

        return list(warnings(row))


class ExamplesOut(Schema):
    """A page of one split."""

    model_config = answered({"split": "train", "items": [_EXAMPLE], "count": 900})

    split: str
    items: list[dict[str, Any]]
    count: int
