"""What is wrong with each row of a revision: found once, kept in a file beside its examination.

The file has a record of fixed size per row, in the order of the splits, and is mapped, never read
whole: a page of a million rows touches a bit mask of each and the records that it shows. While they
are found, memory holds some 60 bytes a row.
"""

from __future__ import annotations

import json
import os
import shutil
from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from backends.base import MEASURED
from registry.background.progress import SILENT, Progress
from registry.bases.child import ask_backend
from registry.bases.registration import base_path
from registry.datasets.examination import digest, prompt_of
from registry.datasets.snapshots import dataset_path
from registry.datasets.splits import SPLITS
from registry.datasets.workbench import issues, languages, near, personal, texts
from registry.datasets.workbench.issues import BY_NAME
from registry.errors import Damaged, NotFound
from registry.late import Late
from registry.models import Dataset, DatasetReport
from registry.storage import artifacts, paths

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Late("numpy")

ROWS = "rows.npy"
_SUMMARY = "summary.json"
_EVERY = 500  # rows between two reports of progress
_MOST_LANGUAGES = 255  # a byte each; 0 is for rows of none or several

RECORD = [
    ("offset", "<u8"),  # bytes before the row in its split's file
    ("size", "<u4"),  # bytes of its line
    ("tokens", "<u4"),  # before any cut; 0 where training would reject it
    ("issues", "<u4"),  # bits
    ("same", "<u4"),  # the number, from 1 over all splits, of the row that it repeats
    ("near", "<u4"),  # of the one that it is like
    ("leak", "<u4"),  # of the one with its prompt in an earlier split
    ("share", "u1"),  # percent of phrases in common with `near`
    ("language", "u1"),  # its number in the summary's languages
]

type Records = NDArray[Any]


@dataclass(frozen=True)
class Findings:
    """The rows of a revision with what was found, mapped from their file."""

    report: DatasetReport
    rows: Records
    summary: dict[str, Any]

    @property
    def dataset(self) -> Dataset:
        return self.report.dataset

    @cached_property
    def starts(self) -> dict[str, int]:
        """By split, the number of rows before it."""
        return starts(self.dataset.splits)

    def place(self, number: int) -> tuple[str, int]:
        """The split and line (from 1) of row `number` (from 0)."""
        return _place(self.starts, number)

    def number(self, split: str, line: int) -> int:
        """The opposite. Raises NotFound."""
        return number(self.dataset, split, line)

    def texts(self, numbers: Iterable[int]) -> Iterator[tuple[int, str]]:
        """The lines of rows, read one by one from their files. Raises NotFound."""
        folder = dataset_path(self.dataset)
        with ExitStack() as stack:
            files: dict[str, IO[bytes]] = {}
            for row in numbers:
                split, _ = self.place(row)
                if split not in files:
                    opened = _open(folder / f"{split}.jsonl", self.dataset)
                    files[split] = stack.enter_context(opened)
                files[split].seek(int(self.rows[row]["offset"]))
                line = files[split].read(int(self.rows[row]["size"]))
                yield row, line.decode().rstrip("\n")


def _open(path: Path, dataset: Dataset) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise NotFound(f"The snapshot of {dataset.name} is missing from storage.") from None


def starts(splits: dict[str, int]) -> dict[str, int]:
    """By split, the number of rows before it, in the order of `SPLITS`."""
    found, before = {}, 0
    for split in SPLITS:
        if split in splits:
            found[split] = before
            before += splits[split]
    return found


def place(splits: dict[str, int], number: int) -> tuple[str, int]:
    """The split and the line (from 1) of row `number` (from 0) over all splits."""
    return _place(starts(splits), number)


def _place(begins: dict[str, int], number: int) -> tuple[str, int]:
    split = next(split for split in reversed(begins) if begins[split] <= number)
    return split, number - begins[split] + 1


def number(dataset: Dataset, split: str, line: int) -> int:
    """The number (from 0) over all splits of a line (from 1). Raises NotFound."""
    if not 1 <= line <= dataset.splits.get(split, 0):
        raise NotFound(f"{dataset} has no row {split} {line}.")
    return starts(dataset.splits)[split] + line - 1


# ---------------------------------------------------------------- kept


def open_findings(report: DatasetReport) -> Findings | None:
    """What was found for a report; None when that was not looked for, or its file is damaged."""
    folder = paths.findings_dir(report.pk)
    try:
        rows = np.load(folder / ROWS, mmap_mode="r")
        summary = json.loads((folder / _SUMMARY).read_text())
    except (OSError, ValueError, EOFError):
        return None
    if rows.dtype != np.dtype(RECORD) or len(rows) != report.dataset.examples:
        return None
    return Findings(report, rows, summary)


def newest_findings(dataset: Dataset) -> Findings | None:
    """Those of the report whose rows were checked last."""
    reports = dataset.reports.select_related("base_model", "dataset")
    for report in sorted(reports, key=_checked_at, reverse=True):
        if found := open_findings(report):
            return found
    return None


def _checked_at(report: DatasetReport) -> float:
    try:
        return (paths.findings_dir(report.pk) / ROWS).stat().st_mtime
    except OSError:
        return 0.0


# ---------------------------------------------------------------- found


def find(report: DatasetReport, progress: Progress = SILENT, purpose: str = "findings") -> Findings:
    """Look at every row of the report's data set, and keep what is found in place of what was kept.

    Raises NotFound when the snapshot is missing, Invalid when the base has no usable tokenizer.
    `purpose` names the folder in staging (see `paths.staging_dir`).
    """
    dataset, folder = report.dataset, dataset_path(report.dataset)
    if not folder.is_dir():
        raise NotFound(f"The snapshot of {dataset.name} is missing from storage.")
    staging = paths.staging_dir(purpose)
    scratch = paths.staging_dir(purpose)
    try:
        progress.stage("Counting tokens")
        _measure(report, folder, scratch, progress)
        rows = np.lib.format.open_memmap(
            staging / ROWS, "w+", np.dtype(RECORD), (dataset.examples,)
        )
        look = _Look(dataset, rows, scratch)
        progress.stage("Reading every row")
        look.read(folder, progress)
        progress.stage("Looking for near-duplicates")
        look.compare(progress)
        summary = look.summary()
        rows.flush()
        del rows, look.rows
        (staging / _SUMMARY).write_text(json.dumps(summary))
        progress.stage("Computing checksums")
        target = paths.findings_dir(report.pk)
        artifacts.publish(staging, target)
        os.utime(target / ROWS)  # the same findings as before keep their file
    finally:
        artifacts.discard(staging)
        shutil.rmtree(scratch, ignore_errors=True)
    found = open_findings(report)
    if found is None:
        raise Damaged(f"What was found in {dataset} cannot be read back; check its rows again.")
    return found


def _measure(report: DatasetReport, folder: Path, scratch: Path, progress: Progress) -> None:
    """Have the backend write `SPLIT.measured`; its growth is the progress."""
    total = report.dataset.examples * MEASURED.size or 1

    def beat() -> None:
        done = sum(path.stat().st_size for path in scratch.glob("*.measured"))
        progress.part(done / total, examples=done // MEASURED.size)

    base = base_path(report.base_model)
    ask_backend(type(None), "measure", base, folder, report.max_seq_length, scratch, beat=beat)


class _Look:
    """One look at every row of a data set, in the order of its splits."""

    def __init__(self, dataset: Dataset, rows: Records, scratch: Path) -> None:
        self.dataset, self.rows, self.scratch = dataset, rows, scratch
        self.whole, self.prompts = array("Q"), array("Q")
        self.signatures = near.Signatures(scratch / "signatures.npy", len(rows))
        self.languages: list[str] = []

    def read(self, folder: Path, progress: Progress) -> None:
        """What every row shows by itself."""
        for split, start in starts(self.dataset.splits).items():
            measured = np.memmap(self.scratch / f"{split}.measured", "<u4", "r").reshape(-1, 2)
            count = self.dataset.splits[split]
            if len(measured) != count:
                raise Damaged(f"{split}.jsonl of {self.dataset} has other rows than its manifest.")
            offset = 0
            with _open(folder / f"{split}.jsonl", self.dataset) as file:
                for at, line in enumerate(file):
                    row = start + at
                    tokens, flags = measured[at]
                    found, language = self._row(row, line)
                    found |= issues.of_tokens(int(flags))
                    self.rows[row] = (offset, len(line), tokens, found, 0, 0, 0, 0, language)
                    offset += len(line)
                    if row % _EVERY == 0:
                        progress.part(row / len(self.rows), examples=row)

    def _row(self, row: int, line: bytes) -> tuple[int, int]:
        """Its issues' bits, and the number of its language."""
        example = json.loads(line)
        self.whole.frombytes(digest(line.rstrip(b"\n")))
        self.prompts.frombytes(digest(prompt_of(example).encode()))
        said = [text for _, text in texts.turns(example)]
        self.signatures.add(row, said)
        found = BY_NAME["empty"].bit if texts.has_empty_answer(example) else 0
        for kind in {one.kind for text in texts.every(example) for one in personal.find(text)}:
            found |= BY_NAME[kind].bit
        written = languages.written_in(said)
        if len(written) > 1:
            found |= BY_NAME["language"].bit
        return found, self._language(written)

    def _language(self, written: set[str]) -> int:
        if len(written) != 1:
            return 0
        (language,) = written
        if language not in self.languages and len(self.languages) < _MOST_LANGUAGES:
            self.languages.append(language)
        return self.languages.index(language) + 1 if language in self.languages else 0

    def compare(self, progress: Progress) -> None:
        """What rows show beside each other."""
        whole = np.frombuffer(self.whole, np.uint64)
        prompts = np.frombuffer(self.prompts, np.uint64)
        for split, start in starts(self.dataset.splits).items():
            end = start + self.dataset.splits[split]
            self._note("duplicate", "same", start, _earlier(whole[start:end], start))
            self._note("leak", "leak", start, _before(prompts, start, end))
        like, share = self.signatures.find(progress)
        other = np.flatnonzero(like)
        other = other[whole[other] != whole[like[other].astype(np.int64) - 1]]
        self.rows["near"][other] = like[other]
        self.rows["share"][other] = share[other]
        self.rows["issues"][other] |= BY_NAME["near"].bit
        self._note_other_languages()

    def _note(self, issue: str, column: str, start: int, partners: Records) -> None:
        """Note the issue for the rows from `start` that have a partner, a number from 1."""
        found = np.flatnonzero(partners)
        self.rows[column][start + found] = partners[found]
        self.rows["issues"][start + found] |= BY_NAME[issue].bit

    def _note_other_languages(self) -> None:
        """Where nearly all rows have one language, those of another are noted."""
        counts = np.bincount(self.rows["language"])
        counts[0] = 0
        if counts.sum() and counts.max() >= languages.MOST * counts.sum():
            other = (self.rows["language"] != 0) & (self.rows["language"] != counts.argmax())
            self.rows["issues"][other] |= BY_NAME["language"].bit

    def summary(self) -> dict[str, Any]:
        """What a page shows of all rows: their issues by split, and their languages."""
        counted = {}
        for split, start in starts(self.dataset.splits).items():
            found = self.rows["issues"][start : start + self.dataset.splits[split]]
            counted[split] = {
                issue.name: int(np.count_nonzero(found & issue.bit)) for issue in issues.ISSUES
            } | {"any": int(np.count_nonzero(found))}
        counts = np.bincount(self.rows["language"], minlength=len(self.languages) + 1)
        return {
            "issues": counted,
            "languages": self.languages,
            "written_in": {
                name: int(counts[at]) for at, name in enumerate(self.languages, start=1)
            },
            "longest": int(self.rows["tokens"].max(initial=0)),
        }


def _earlier(keys: Records, start: int) -> Records:
    """For each key, the number (from 1, where the first key's is `start` + 1) of the first equal
    one before it, 0 for none."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    found = first[inverse]
    return np.where(found != np.arange(len(keys)), start + found + 1, 0)


def _before(keys: Records, start: int, end: int) -> Records:
    """For each key from `start`, the number (from 1) of the first equal one before `start`, 0 for
    none."""
    known, first = np.unique(keys[:start], return_index=True)
    if not len(known):
        return np.zeros(end - start, np.int64)
    at = np.minimum(np.searchsorted(known, keys[start:end]), len(known) - 1)
    return np.where(known[at] == keys[start:end], first[at] + 1, 0)
