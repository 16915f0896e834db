"""Rows of data sets over JSON."""

# No `from __future__ import annotations`: ninja resolves texts in the module of its decorators.

from typing import Annotated, Any, Literal

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Query, Router, Status
from pydantic import Field

from backends.base import RenderedRow
from registry.datasets.tasks import checked, start_fix, start_rows
from registry.datasets.workbench import origins, rows
from registry.models import BaseModel as Base
from registry.models import Dataset, DatasetTask
from registry.web.schemas import DatasetOut, DatasetTaskOut, ReportIn
from registry.web.schemas.rows import (
    DifferencesOut,
    FindingsOut,
    FixIn,
    OneRowOut,
    RowsOut,
    WantedIn,
)

router = Router(tags=["data sets"])


@router.post(
    "/datasets/{int:dataset_id}/findings",
    response={202: DatasetTaskOut},
    summary="Check every row",
)
def check_rows(request: HttpRequest, dataset_id: int, payload: ReportIn) -> Status[DatasetTask]:
    """In the background: poll the task. The rows can be asked for and changed then."""
    found = get_object_or_404(Dataset, pk=dataset_id)
    base = get_object_or_404(Base, pk=payload.base_model_id)
    return Status(202, start_rows(found, base, payload.max_seq_length))


@router.get(
    "/datasets/{int:dataset_id}/findings", response=FindingsOut, summary="What the rows have"
)
def findings(request: HttpRequest, dataset_id: int) -> dict[str, Any]:
    """Counts of issues by split: duplicate, near, leak, cut, unlearned, wrong, empty, unended,
    special, language, mail, phone, card, and any of them. 409 until the rows are checked."""
    found = checked(get_object_or_404(Dataset, pk=dataset_id))
    about = {name: found.summary[name] for name in ("issues", "written_in", "longest")}
    return {
        "dataset_id": dataset_id,
        "base_model_id": found.report.base_model_id,
        "max_seq_length": found.report.max_seq_length,
        **about,
    }


@router.get("/datasets/{int:dataset_id}/rows", response=RowsOut, summary="Rows by issue")
def rows_of(
    request: HttpRequest,
    dataset_id: int,
    wanted: Query[WantedIn],
    order: Literal["", "longest", "shortest"] = "",
    limit: Annotated[int, Field(ge=1, le=200)] = 20,
    offset: Annotated[int, Field(ge=0, le=10**12)] = 0,
) -> dict[str, Any]:
    """By split, issue, tokens and words. A search for words may give fewer than `limit`, or none,
    after a second: go on at `next`. 409 until the rows are checked."""
    found = checked(get_object_or_404(Dataset, pk=dataset_id))
    page = rows.page(found, wanted.wanted(), offset, limit, order)
    return {"items": page.rows, "count": page.total, "next": page.next}


@router.get(
    "/datasets/{int:dataset_id}/rows/{split}/{int:line}", response=OneRowOut, summary="One row"
)
def row(request: HttpRequest, dataset_id: int, split: str, line: int) -> dict[str, Any]:
    """Token for token, with its issues, and where it comes from in earlier revisions."""
    dataset = get_object_or_404(Dataset, pk=dataset_id)
    found = checked(dataset)
    one = rows.row_at(found, split, line)
    rejected = any(issue.name == "wrong" for issue in one.issues)
    shown = RenderedRow([], []) if rejected else rows.tokens_of(found, split, line)
    return {
        "checked": one,
        "rendered": [example.pieces for example in shown.examples],
        "notes": shown.notes,
        "personal": [text for _, text in one.personal],
        "origins": [
            {
                "dataset_id": origin.dataset.pk,
                "revision": origin.dataset.revision,
                "split": origin.split,
                "line": origin.line,
                "how": origin.how,
            }
            for origin in origins.trail(dataset, split, line)
        ],
    }


@router.post(
    "/datasets/{int:dataset_id}/fixes",
    response={201: DatasetOut, 202: DatasetTaskOut},
    summary="Drop, edit, move or redact rows",
)
def fix(request: HttpRequest, dataset_id: int, payload: FixIn) -> Status[Dataset | DatasetTask]:
    """The data set's next revision; 202 while a large one is made in the background. Its rows are
    checked again, too. Only the newest revision can be changed, and no revision ever is."""
    made = start_fix(get_object_or_404(Dataset, pk=dataset_id), payload.fix())
    return Status(202 if isinstance(made, DatasetTask) else 201, made)


@router.get(
    "/datasets/{int:dataset_id}/fixes", response=DifferencesOut, summary="What a fix changed"
)
def fixed(
    request: HttpRequest,
    dataset_id: int,
    how: Literal["dropped", "edited", "moved", "redacted"] = "dropped",
    limit: Annotated[int, Field(ge=1, le=200)] = 20,
    offset: Annotated[int, Field(ge=0, le=10**12)] = 0,
) -> dict[str, Any]:
    """Rows before and after, with their places; none for a revision that came from files."""
    dataset = get_object_or_404(Dataset, pk=dataset_id)
    items, _ = origins.differences(dataset, how, offset, limit)
    counts = {name: dataset.fixes.get(name, 0) for name in origins.CHANGES}
    return {"message": dataset.fixes.get("message", ""), "counts": counts, "items": items}
