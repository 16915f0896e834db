"""What files would become as a data set, before they are registered."""

from __future__ import annotations

from typing import Annotated, Any

from ninja import Schema
from pydantic import BaseModel, Field, Json

from registry.web.schemas.examples import answered, shown


class StagedDatasetIn(BaseModel):
    """An upload that was previewed."""

    model_config = shown({"name": "questions", "upload": "0" * 32})

    name: Annotated[str, Field(min_length=1, max_length=100)]
    description: Annotated[str, Field(max_length=10_000)] = ""
    upload: Annotated[str, Field(max_length=100, description="The preview's")]
    columns: Annotated[
        dict[str, str], Field(description="Which column holds a field that training reads")
    ] = {}


class PreviewUploadIn(BaseModel):
    """The text field of a multipart preview."""

    columns: Annotated[
        Json[dict[str, str]], Field(description="As JSON: which column holds what training reads")
    ] = {}


class PreviewIn(BaseModel):
    """What to preview: a few examples, an upload that was previewed before, or a hub id."""

    model_config = shown({"upload": "0" * 32, "columns": {"prompt": "ask", "completion": "reply"}})

    examples: list[dict[str, Any]] = []
    upload: Annotated[str, Field(max_length=100, description="An earlier preview's")] = ""
    hub: Annotated[str, Field(max_length=300, description="hub:OWNER/NAME or with @REVISION")] = ""
    columns: Annotated[
        dict[str, str], Field(description="Which column holds a field that training reads")
    ] = {}


class PreviewedRowOut(Schema):
    """A row of a file, and the example that it becomes or what is wrong with it; texts are cut."""

    split: Annotated[str, Field(description='"" for a file that is split')]
    file: str
    place: str
    given: Annotated[dict[str, str], Field(description="By column")]
    becomes: dict[str, Any] | None
    problem: str


class WayOut(Schema):
    """Another dialect that the columns fit, and the `columns` that choose it."""

    name: str
    columns: dict[str, str]


class PreviewOut(Schema):
    """What files would become. Nothing is registered; `upload` registers them, or previews them
    again with other columns, within a day."""

    model_config = answered(
        {
            "upload": "0" * 32,
            "format": "completions",
            "read_as": ["Alpaca (instruction, output)"],
            "why": ["Alpaca, since rows have instruction and output."],
            "splits": {"train": 800, "valid": 100, "test": 100},
            "exact": True,
            "files": {"": ["alpaca.jsonl"]},
            "uses": {"instruction": "prompt", "output": "completion", "id": ""},
            "unused": ["id"],
            "notes": ["These columns are not used: id."],
            "warnings": ["3 examples of train repeat an earlier one."],
            "samples": [
                {
                    "split": "",
                    "file": "alpaca.jsonl",
                    "place": "line 1",
                    "given": {"instruction": "Capital of Peru?", "output": "Lima.", "id": "1"},
                    "becomes": {"prompt": "Capital of Peru?", "completion": "Lima."},
                    "problem": "",
                }
            ],
            "problems": [],
            "wrong": 0,
            "others": [],
        }
    )

    upload: str
    format: Annotated[str, Field(description='"" when nothing could be read')]
    read_as: list[str]
    why: Annotated[list[str], Field(description="Why rows were taken for a dialect")]
    splits: Annotated[dict[str, int], Field(description="Examples per split")]
    exact: Annotated[bool, Field(description="False: the counts are estimates")]
    files: dict[str, list[str]]
    uses: Annotated[
        dict[str, str], Field(description='What each column becomes; "" for one that is not used')
    ]
    unused: list[str]
    notes: list[str]
    warnings: Annotated[
        list[str], Field(description="Repeats, leaks, labels out of balance; of whole files alone")
    ]
    samples: list[PreviewedRowOut]
    problems: Annotated[list[str], Field(description="The first mistakes")]
    wrong: Annotated[int, Field(description="Mistakes in what was read")]
    others: list[WayOut]
