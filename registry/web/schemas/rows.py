"""Rows of a data set: what was found in them, and what changes them."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import BaseModel, Field

from registry.datasets.workbench.fixes import Fix
from registry.datasets.workbench.rows import Checked, Wanted
from registry.web.schemas.examples import answered, shown

Split = Literal["train", "valid", "test"]
Tokens = Annotated[int, Field(ge=0, le=2**32 - 1)]

_ROW: dict[str, Any] = {
    "split": "train",
    "line": 12,
    "tokens": 93,
    "issues": ["near", "mail"],
    "like": [{"issue": "near", "split": "train", "line": 3, "share": 86}],
    "row": {"text": "Write to ana@example.org"},
}


class WantedIn(BaseModel):
    """Which rows; what is left out does not matter."""

    split: Split | None = None
    issue: Annotated[
        str, Field(max_length=20, description='An issue\'s name, "personal" or "any"')
    ] = ""
    shortest: Annotated[Tokens | None, Field(description="Tokens, at least")] = None
    longest: Annotated[Tokens | None, Field(description="Tokens, at most")] = None
    q: Annotated[str, Field(max_length=500, description="Words anywhere in the row")] = ""

    def wanted(self) -> Wanted:
        return Wanted(self.split or "", self.issue, self.shortest, self.longest, self.q)


class LikeOut(Schema):
    issue: str
    split: str
    line: int
    share: Annotated[int, Field(description="Percent of phrases in common")]


class RowOut(Schema):
    """A row with what was found."""

    model_config = answered(_ROW)

    split: str
    line: Annotated[int, Field(description="In the split, from 1")]
    tokens: Annotated[int, Field(description="Before any cut; 0 where training would reject it")]
    issues: list[str]
    like: list[LikeOut]
    row: dict[str, Any]

    @staticmethod
    def resolve_issues(row: Checked) -> list[str]:
        return [issue.name for issue in row.issues]

    @staticmethod
    def resolve_like(row: Checked) -> list[dict[str, Any]]:
        return [
            {"issue": one.how.name, "split": one.split, "line": one.line, "share": one.share}
            for one in row.like
        ]


class RowsOut(Schema):
    """Rows of a page. `next` is the `offset` to go on with, null at the end; `count` leaves words
    aside."""

    model_config = answered({"items": [_ROW], "count": 27, "next": 20})

    items: list[RowOut]
    count: int
    next: int | None


class PieceOut(Schema):
    text: str
    trained: Annotated[bool, Field(description="Counts in the loss")]
    cut: Annotated[bool, Field(description="Lies beyond the limit")]
    tokens: int


class OriginOut(Schema):
    dataset_id: int
    revision: int
    split: str
    line: int
    how: Annotated[str, Field(description="kept, moved, edited or redacted since")]


class OneRowOut(Schema):
    """A row token for token, two lists for a preference; and where it comes from, newest first."""

    model_config = answered(
        {
            "checked": _ROW,
            "rendered": [[{"text": "Write", "trained": True, "cut": False, "tokens": 1}]],
            "notes": [],
            "personal": ["ana@example.org"],
            "origins": [
                {"dataset_id": 1, "revision": 1, "split": "train", "line": 14, "how": "kept"}
            ],
        }
    )

    checked: RowOut
    rendered: list[list[PieceOut]]
    notes: Annotated[list[str], Field(description="Why answers are not learned")]
    personal: list[str]
    origins: list[OriginOut]


class FindingsOut(Schema):
    """How many rows of each split have which issue, and the languages of the rows."""

    model_config = answered(
        {
            "dataset_id": 1,
            "base_model_id": 1,
            "max_seq_length": 2048,
            "issues": {"train": {"duplicate": 2, "any": 9}},
            "written_in": {"en": 760, "de": 10},
            "longest": 635,
        }
    )

    dataset_id: int
    base_model_id: int
    max_seq_length: int
    issues: dict[str, dict[str, int]]
    written_in: dict[str, int]
    longest: int


class FixIn(BaseModel):
    """What to do with the rows that are named, or else with all that are wanted."""

    model_config = shown(
        {"action": "redact", "wanted": {"issue": "personal"}, "message": "No customers' data"}
    )

    action: Literal["drop", "edit", "move", "redact"]
    message: Annotated[str, Field(max_length=500, description="Why, for people")] = ""
    rows: Annotated[
        list[Annotated[str, Field(max_length=20)]],
        Field(max_length=10_000, description="As SPLIT:LINE, such as train:12"),
    ] = []
    wanted: WantedIn = WantedIn()
    to: Annotated[Split | None, Field(description="Where to move the rows")] = None
    row: Annotated[
        dict[str, Any] | None, Field(description="What to edit a row to, in any dialect")
    ] = None

    def fix(self) -> Fix:
        return Fix(
            action=self.action,
            message=self.message,
            keys=tuple(self.rows),
            wanted=self.wanted.wanted(),
            to=self.to or "",
            text=json.dumps(self.row) if self.row is not None else "",
        )


class PlacedOut(Schema):
    split: str
    line: int
    row: dict[str, Any]


class DifferenceOut(Schema):
    how: str
    before: PlacedOut
    after: PlacedOut | None


class DifferencesOut(Schema):
    """Rows that a fix dropped, edited, moved or redacted since the revision before."""

    model_config = answered(
        {
            "message": "No customers' data",
            "counts": {"dropped": 0, "edited": 0, "moved": 0, "redacted": 1},
            "items": [
                {
                    "how": "redacted",
                    "before": {"split": "train", "line": 12, "row": {"text": "ana@example.org"}},
                    "after": {"split": "train", "line": 12, "row": {"text": "[mail address]"}},
                }
            ],
        }
    )

    message: str
    counts: dict[str, int]
    items: list[DifferenceOut]
