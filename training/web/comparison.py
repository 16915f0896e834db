"""The table of a sweep: each job's varied settings and results, and which job did best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from registry.models import ModelVersion
from registry.versions.comparison import by_weight
from training.config.vocabulary import LABELS, display_value
from training.models import Sweep
from training.queue.sweeps import Compared
from training.web.overview import MAX_RUNS

MAX_CURVES = MAX_RUNS
_MOST_METRICS = 4
_PLACES = {setting: place for place, setting in enumerate(LABELS)}
_SHOWN_ALREADY = ("train_loss", "val_loss", "best_val_loss", "best_iteration")


@dataclass(frozen=True)
class Row:
    """One job. `settings` are its varied values and `metrics` the finished version's, in the order of
    the table's columns."""

    compared: Compared
    settings: list[Any]
    metrics: list[Any]

    @property
    def job(self) -> Any:
        return self.compared.job

    @property
    def version(self) -> ModelVersion | None:
        job = self.compared.job
        return job.result_version if job.status == job.Status.COMPLETED else None


@dataclass(frozen=True)
class Cell:
    """A job in the grid of two settings. `level` is 5 for the lowest loss, 1 for the highest and 0
    when none was measured."""

    row: Row
    level: int


@dataclass(frozen=True)
class Table:
    """The jobs in the grid's order. When exactly two settings vary, `grid` holds for each value of
    the first setting the cells of the second."""

    settings: list[str]
    metrics: list[str]
    rows: list[Row]
    columns: list[Any]
    grid: list[tuple[Any, list[Cell | None]]]

    @classmethod
    def of(cls, sweep: Sweep, compared: Sequence[Compared]) -> Self:
        names = sorted(sweep.grid, key=_place)
        known = {
            name
            for one in compared
            for name in one.metrics
            if name not in _SHOWN_ALREADY and not name.startswith("base_")
        }
        metrics = by_weight(known)[:_MOST_METRICS]
        rows = [
            Row(
                one,
                [display_value(one.varied.get(name)) for name in names],
                [one.metrics.get(name) for name in metrics],
            )
            for one in compared
        ]
        labels = [LABELS.get(name, name) for name in names]
        columns, grid = _grid(sweep, rows)
        return cls(labels, metrics, rows, columns, grid)

    @property
    def over(self) -> int:
        return sum(row.job.is_over for row in self.rows)

    @property
    def is_live(self) -> bool:
        return self.over < len(self.rows)

    def best(self, most: int) -> list[Row]:
        """The jobs with the lowest validation loss, best first."""
        measured = [row for row in self.rows if row.compared.best_val_loss is not None]
        return sorted(measured, key=lambda row: row.compared.best_val_loss or 0.0)[:most]


def _place(setting: str) -> tuple[int, str]:
    """Sorts settings as the form does; the database may not keep the order of a grid's keys."""
    return (_PLACES.get(setting, len(_PLACES)), setting)


def _grid(
    sweep: Sweep, rows: Sequence[Row]
) -> tuple[list[Any], list[tuple[Any, list[Cell | None]]]]:
    if len(sweep.grid) != 2:
        return [], []
    first, second = sorted(sweep.grid, key=_place)
    down, across = sweep.grid[first], sweep.grid[second]
    losses = [row.compared.best_val_loss for row in rows]
    known = [loss for loss in losses if loss is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    cells: dict[tuple[str, str], Cell] = {}
    for row, loss in zip(rows, losses, strict=True):
        share = (high - (loss or high)) / (high - low) if high > low else 1.0
        level = 0 if loss is None else 1 + round(4 * share)
        varied = row.compared.varied
        cells[str(varied.get(first)), str(varied.get(second))] = Cell(row, level)
    lines = [
        (display_value(one), [cells.get((str(one), str(two))) for two in across]) for one in down
    ]
    return [display_value(two) for two in across], lines
