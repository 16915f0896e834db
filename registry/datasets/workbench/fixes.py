"""Fixes of rows: what is dropped, edited, moved or redacted becomes the data set's next revision.

Snapshots are never written to: the new revision is a snapshot of its own, and the one before stays.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from registry.background.progress import SILENT, Progress
from registry.datasets import snapshots
from registry.datasets.dialects.detection import Kind
from registry.datasets.files import values
from registry.datasets.formats import FIELDS
from registry.datasets.reading import limited
from registry.datasets.reading.file import Asked
from registry.datasets.revisions import newest_named
from registry.datasets.splits import SPLITS
from registry.datasets.workbench import issues, origins, personal, rows, texts
from registry.datasets.workbench.findings import Findings, number
from registry.datasets.workbench.rows import Wanted
from registry.errors import Conflict, Invalid
from registry.late import Late
from registry.models import Dataset
from registry.storage import artifacts, paths

if TYPE_CHECKING:
    import numpy as np
else:
    np = Late("numpy")

MOST_ROWS = 10_000
"""Rows that one fix names one by one; a fix of all that are wanted has no limit."""

_EVERY = 5_000

type Action = Literal["drop", "edit", "move", "redact"]
ACTIONS: tuple[Action, ...] = ("drop", "edit", "move", "redact")
_DONE = {"drop": "dropped", "edit": "edited", "move": "moved", "redact": "redacted"}


@dataclass(frozen=True)
class Fix:
    """`action` for the rows named as `train:12`, or else for all that are `wanted`: to `move` them
    to the split `to`, to `edit` the one that is named to the JSON `text`."""

    action: Action
    message: str = ""
    keys: tuple[str, ...] = ()
    wanted: Wanted = field(default_factory=Wanted)
    to: str = ""
    text: str = ""

    def as_options(self) -> dict[str, Any]:
        """As the row of a task keeps it."""
        return asdict(self)

    @classmethod
    def of_options(cls, options: Mapping[str, Any]) -> Fix:
        """The opposite."""
        given = {**options, "keys": tuple(options["keys"]), "wanted": Wanted(**options["wanted"])}
        return cls(**given)


def check(dataset: Dataset, fix: Fix) -> Fix:
    """The fix, its edited row in the form in which the data set keeps it. Raises Invalid and
    Conflict when it cannot be made, whatever the rows hold."""
    refuse_older(dataset)
    if fix.action not in ACTIONS:
        raise Invalid(f"Rows can be changed by {', '.join(ACTIONS)}, not {fix.action!r}.")
    if len(fix.keys) > MOST_ROWS:
        raise Invalid(f"Name at most {MOST_ROWS:,} rows, or choose them by issue, split or length.")
    if not fix.keys and fix.wanted == Wanted():
        raise Invalid("Name the rows to change, or choose them by issue, split, length or words.")
    for key in fix.keys:
        number(dataset, *rows.parse_key(key))
    if fix.action == "move" and fix.to not in SPLITS:
        raise Invalid(f"Rows can be moved to {', '.join(SPLITS)}, not to {fix.to or 'nowhere'!r}.")
    if fix.action == "edit":
        if len(fix.keys) != 1:
            raise Invalid("Edit one row at a time: name it as SPLIT:LINE.")
        return Fix(fix.action, fix.message, fix.keys, text=edited(dataset, fix.text)[0])
    return fix


def refuse_older(dataset: Dataset) -> None:
    """Raises Conflict unless this is the newest revision: the next one follows that."""
    newest = newest_named(dataset.name)
    if newest is not None and newest.pk != dataset.pk:
        raise Conflict(f"{dataset} is not the newest revision; change rows of {newest}.")


def edited(dataset: Dataset, text: str) -> tuple[str, bool]:
    """A row that a person wrote, in any dialect, as the data set keeps it, and whether it uses
    tools. Raises Invalid."""
    staging = paths.staging_dir("row")
    try:
        row = values.dump(values.parse(text.strip()))
        path = staging / "row.jsonl"
        path.write_text(row + "\n", encoding="utf-8")
        family: Any = "chat" if dataset.format == "tools" else dataset.format
        asked = Asked(kind=Kind(family, lifts=family == "chat"), name="The row")
        line, tools = "", False
        for event in limited.read(path, asked):
            if event.problem:
                raise Invalid(f"The row {event.problem.partition(': ')[2]}")
            line = event.line or line
            tools |= bool(event.found and event.found.tools)
        return line, tools
    except values.BadLine as error:
        raise Invalid(f"The row {error}") from None
    finally:
        artifacts.discard(staging)


def apply(
    findings: Findings, fix: Fix, progress: Progress = SILENT, purpose: str = "dataset"
) -> Dataset:
    """Make the fix: the data set's next revision. Raises Invalid when it would change nothing or
    leave a split without rows, and Conflict when a newer revision came in the meantime."""
    dataset = findings.dataset
    fix = check(dataset, fix)
    staging = paths.staging_dir(purpose)
    try:
        progress.stage("Writing the rows")
        chosen = _chosen(findings, fix)
        writing = _Writing(findings, fix, chosen, staging, progress)
        counts = writing.write()
        if not writing.done:
            raise Invalid(_nothing(fix))
        _keep_splits(staging, counts)
        np.save(staging / origins.FILE, writing.origins(counts))
        progress.stage("Computing checksums")
        return snapshots.keep_next(staging, _revision(dataset, fix, writing, counts), progress)
    finally:
        artifacts.discard(staging)


def _chosen(findings: Findings, fix: Fix) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """A mask over all rows: those that are named or wanted, and that the action can change."""
    mask = np.zeros(len(findings.rows), bool)
    if fix.keys:
        mask[[findings.number(*rows.parse_key(key)) for key in fix.keys]] = True
    else:
        for row in rows.numbers(findings, fix.wanted):
            mask[row] = True
    if fix.action == "redact":
        mask &= (findings.rows["issues"] & issues.PERSONAL) != 0
    if fix.action == "move" and fix.to in findings.starts:
        start = findings.starts[fix.to]
        mask[start : start + findings.dataset.splits[fix.to]] = False
    return mask


def _nothing(fix: Fix) -> str:
    if fix.action == "redact":
        return "Nothing would change: none of these rows has personal data that can be found."
    if fix.action == "move":
        return f"Nothing would change: these rows are in {fix.to} already."
    return "Nothing would change: no row is chosen, or it is as before."


class _Writing:
    """The splits of a new revision, line by line from those of the old."""

    def __init__(
        self, findings: Findings, fix: Fix, chosen: Any, staging: Path, progress: Progress
    ) -> None:
        self.findings, self.fix, self.chosen = findings, fix, chosen
        self.staging, self.progress = staging, progress
        self.done: Counter[str] = Counter()
        self.characters = self.longest = 0
        self.came: dict[str, array[int]] = {split: array("Q") for split in SPLITS}

    def write(self) -> dict[str, int]:
        """Rows per split. Moved ones come last in theirs."""
        splits = [split for split in SPLITS if split in self.findings.dataset.splits]
        if self.fix.action == "move" and self.fix.to not in splits:
            splits.append(self.fix.to)
        with ExitStack() as stack:
            files = {
                split: stack.enter_context((self.staging / f"{split}.jsonl").open("wb"))
                for split in sorted(splits, key=SPLITS.index)
            }
            for row, text in self.findings.texts(iter(range(len(self.findings.rows)))):
                if row % _EVERY == 0:
                    self.progress.part(row / len(self.findings.rows))
                if not self.chosen[row]:
                    self._put(files, row, text, "kept")
                elif self.fix.action != "move":
                    self._change(files, row, text)
            if self.fix.action == "move":
                for row, text in self.findings.texts(map(int, np.flatnonzero(self.chosen))):
                    self._put(files, row, text, "moved", self.fix.to)
        return {split: len(self.came[split]) for split in files}

    def _change(self, files: Mapping[str, IO[bytes]], row: int, text: str) -> None:
        if self.fix.action == "drop":
            self.done["dropped"] += 1
            return
        new = self.fix.text if self.fix.action == "edit" else _redacted(text)
        how = _DONE[self.fix.action] if new != text else "kept"
        self._put(files, row, new, how)

    def _put(
        self, files: Mapping[str, IO[bytes]], row: int, text: str, how: str, to: str = ""
    ) -> None:
        split, line = self.findings.place(row)
        files[to or split].write(text.encode() + b"\n")
        record = SPLITS.index(split) | origins.HOWS.index(how) << 8 | line << 16
        self.came[to or split].append(record)
        self.characters += len(text)
        self.longest = max(self.longest, len(text))
        if how != "kept":
            self.done[how] += 1

    def origins(self, counts: Mapping[str, int]) -> np.ndarray[Any, np.dtype[Any]]:
        """The record of each row, in the order of the splits."""
        packed = np.concatenate(
            [np.frombuffer(self.came[s], np.uint64) for s in SPLITS if counts.get(s)]
        )
        found = np.empty(len(packed), np.dtype(origins.ORIGIN))
        found["split"] = packed & 0xFF
        found["how"] = packed >> 8 & 0xFF
        found["line"] = packed >> 16
        return found


def _redacted(text: str) -> str:
    row = values.parse(text)
    changed = texts.changed(row, personal.redact)
    return text if changed == row else values.dump(changed)


def _keep_splits(staging: Path, counts: dict[str, int]) -> None:
    """Raises Invalid when train or valid would be empty; a test split may end."""
    for split in ("train", "valid"):
        if not counts.get(split):
            raise Invalid(f"No row would be left in {split}, and training needs some there.")
    if counts.get("test") == 0:
        (staging / "test.jsonl").unlink()
        del counts["test"]


def _revision(dataset: Dataset, fix: Fix, writing: _Writing, counts: Mapping[str, int]) -> Dataset:
    """The row of the new revision, not saved yet."""
    tools = fix.action == "edit" and edited(dataset, fix.text)[1]
    form = Dataset.Format.TOOLS if tools else Dataset.Format(dataset.format)
    rest = sum(counts.values())
    return Dataset(
        name=dataset.name,
        description=dataset.description,
        source=f"Revision {dataset.revision}, with rows {' and '.join(sorted(writing.done))}",
        previous=dataset,
        format=form,
        schema={**dataset.schema, "fields": FIELDS[form]},
        splits=dict(counts),
        token_stats={
            "characters": writing.characters,
            "characters_per_example": round(writing.characters / rest, 1),
            "longest_characters": writing.longest,
        },
        fixes={"message": fix.message, **{how: writing.done[how] for how in origins.CHANGES}},
    )
