"""The reports of a version's evaluation, prepared for a page: confusion matrix, classes, fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LEVELS = 5  # of shading


@dataclass(frozen=True)
class Cell:
    """How many examples of one label (its row) were given another (its column), their share of the
    row, and how dark that is, 0 to 5."""

    count: int
    share: float
    level: int
    right: bool


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix by rows: (expected label, its cells). OTHER stands for `merged` labels."""

    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    merged: int


def matrix(report: Mapping[str, Any]) -> Matrix:
    """Of a report `classes`, shaded."""
    kept = report["matrix"]
    known = len(kept["labels"]) - bool(kept["merged"])  # without OTHER, which is never right
    rows = [
        (label, [_cell(count, sum(counts), at == n < known) for n, count in enumerate(counts)])
        for at, (label, counts) in enumerate(zip(kept["labels"], kept["rows"], strict=True))
    ]
    return Matrix(kept["columns"], rows, kept["merged"])


def _cell(count: int, total: int, right: bool) -> Cell:
    share = count / total if total else 0.0
    return Cell(count, share, -int(-share * _LEVELS // 1), right)


def prepared(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """`matrix` and `base_matrix`, and `ratios` by class or field with the base's F1 as `base_f1`;
    only those that the evaluation has."""
    found: dict[str, Any] = {}
    if classes := evaluation.get("classes"):
        found["matrix"] = matrix(classes["tuned"])
        found["base_matrix"] = matrix(classes["base"])
        found["ratios"] = _ratios(classes, "classes", "label")
    elif fields := evaluation.get("fields"):
        found["ratios"] = _ratios(fields, "fields", "field")
        found["whole"] = fields["tuned"] | {"base_f1": fields["base"]["f1"]}
    return found


def _ratios(sides: Mapping[str, Any], part: str, key: str) -> list[dict[str, Any]]:
    base = {one[key]: one["f1"] for one in sides["base"][part]}
    return [
        {**one, "name": one[key], "base_f1": base.get(one[key])} for one in sides["tuned"][part]
    ]
