"""Where each row of a fixed revision comes from: a line of the revision before it.

`origins.npy` lies with the revision's files, sealed like them, and has six bytes a row. A revision
that was registered from files has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from registry.datasets.files.lines import skip
from registry.datasets.files.values import Row
from registry.datasets.snapshots import dataset_path
from registry.datasets.splits import SPLITS
from registry.datasets.workbench.findings import place, starts
from registry.errors import Invalid, NotFound
from registry.late import Late
from registry.models import Dataset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Late("numpy")

FILE = "origins.npy"
HOWS = ("kept", "moved", "edited", "redacted")
"""What was done to a row, as its record has it."""

ORIGIN = [("split", "u1"), ("how", "u1"), ("line", "<u4")]

type How = Literal["dropped", "moved", "edited", "redacted"]
CHANGES: tuple[How, ...] = ("dropped", "edited", "moved", "redacted")


@dataclass(frozen=True)
class Origin:
    """A line of an earlier revision that a row comes from, and what was done to it since."""

    dataset: Dataset
    split: str
    line: int
    how: str


@dataclass(frozen=True)
class Difference:
    """A row before and after; `before` or `after` is a place, text and row, or None."""

    how: How
    before: Placed
    after: Placed | None


@dataclass(frozen=True)
class Placed:
    """A row's text at its place."""

    split: str
    line: int
    text: str

    @property
    def row(self) -> Row:
        found: Row = json.loads(self.text)
        return found


def trail(dataset: Dataset, split: str, line: int) -> Iterator[Origin]:
    """Where a row comes from, revision by revision, up to one that was registered from files."""
    while (records := _records(dataset)) is not None and dataset.previous is not None:
        record = records[starts(dataset.splits)[split] + line - 1]
        dataset, split, line = dataset.previous, SPLITS[record["split"]], int(record["line"])
        yield Origin(dataset, split, line, HOWS[record["how"]])


def differences(
    dataset: Dataset, how: str, first: int = 0, limit: int = 20
) -> tuple[list[Difference], int]:
    """The rows that were dropped, edited, moved or redacted since the revision before, from the
    place `first` on, and how many there are. Raises Invalid and NotFound."""
    if how not in CHANGES:
        raise Invalid(f"Rows are {', '.join(CHANGES)}, not {how!r}.")
    records, parent = _records(dataset), dataset.previous
    if records is None or parent is None:
        return [], 0
    if how == "dropped":
        gone = _dropped(records, parent)
        olds = [place(parent.splits, int(row)) for row in gone[first : first + limit]]
        before = placed(parent, olds)
        return [Difference("dropped", one, None) for one in before], len(gone)
    changed = np.flatnonzero(records["how"] == HOWS.index(how))
    shown = changed[first : first + limit]
    olds = [(SPLITS[records[row]["split"]], int(records[row]["line"])) for row in shown]
    news = [place(dataset.splits, int(row)) for row in shown]
    pairs = zip(placed(parent, olds), placed(dataset, news), strict=True)
    return [Difference(how, old, new) for old, new in pairs], len(changed)


def _records(dataset: Dataset) -> NDArray[Any] | None:
    """The origins of a revision's rows, mapped from their file; None for one without."""
    try:
        records: NDArray[Any] = np.load(dataset_path(dataset) / FILE, mmap_mode="r")
    except FileNotFoundError:
        return None
    return records


def _dropped(records: NDArray[Any], parent: Dataset) -> NDArray[np.int64]:
    """The numbers of the parent's rows that no row comes from."""
    here = np.zeros(parent.examples, bool)
    for split, start in starts(parent.splits).items():
        lines = records["line"][records["split"] == SPLITS.index(split)]
        here[start + lines.astype(np.int64) - 1] = True
    return np.flatnonzero(~here)


def placed(dataset: Dataset, places: list[tuple[str, int]]) -> list[Placed]:
    """The rows at these places, in their order; each file is read once, up to the last of them. Raises
    NotFound when it is gone."""
    found: dict[tuple[str, int], str] = {}
    for split in {split for split, _ in places}:
        try:
            with (dataset_path(dataset) / f"{split}.jsonl").open("rb") as file:
                before = 0
                for line in sorted({line for where, line in places if where == split}):
                    skip(file, line - 1 - before)
                    found[split, line] = file.readline().decode().rstrip("\n")
                    before = line
        except FileNotFoundError:
            raise NotFound(f"The snapshot of {dataset.name} is missing from storage.") from None
    return [Placed(split, line, found[split, line]) for split, line in places]
