"""Pages of a data set's rows: by split, length, issue and words; and one row with all that was
found in it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from backends.base import Piece, RenderedExample, RenderedRow
from registry.bases.child import ask_backend
from registry.bases.registration import base_path
from registry.datasets.files.values import Row
from registry.datasets.snapshots import dataset_path
from registry.datasets.workbench import issues, origins, personal, texts
from registry.datasets.workbench.findings import Findings
from registry.datasets.workbench.findings import number as number_of
from registry.datasets.workbench.issues import Issue
from registry.errors import Invalid
from registry.late import Late
from registry.models import Dataset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Late("numpy")

SEARCH_S = 1.5
"""How long one request looks for words before it gives what it has, and where to go on."""

type Numbers = NDArray[np.int64]
type Order = Literal["", "longest", "shortest"]


@dataclass(frozen=True)
class Wanted:
    """Which rows: of a split, with an issue (or "any", "personal"), from `shortest` to `longest`
    tokens, with these words (in any case of letters) anywhere in them."""

    split: str = ""
    issue: str = ""
    shortest: int | None = None
    longest: int | None = None
    q: str = ""


@dataclass(frozen=True)
class Like:
    """Another row that shares something with a row: `how` is the issue, `share` percent."""

    how: Issue
    split: str
    line: int
    share: int


@dataclass(frozen=True)
class Checked:
    """A row with what was found. `tokens` is 0 where training would reject it."""

    split: str
    line: int
    tokens: int
    issues: list[Issue]
    like: list[Like]
    text: str = field(repr=False)

    @property
    def key(self) -> str:
        """As forms and commands name it: `train:12`."""
        return f"{self.split}:{self.line}"

    @property
    def row(self) -> Row:
        found: Row = json.loads(self.text)
        return found

    @property
    def shown(self) -> str:
        """The beginning of what it says."""
        return texts.shown(self.row, 220)

    @property
    def personal(self) -> list[tuple[str, str]]:
        """(issue's label, text) of the personal data in it."""
        return [
            (issues.BY_NAME[one.kind].label, text[one.start : one.end])
            for text in texts.every(self.row)
            for one in personal.find(text)
        ]


@dataclass(frozen=True)
class Page:
    """`rows` from the place `first` on. `total` counts the rows that are wanted, words aside;
    `next` is the place where to go on, None at the end."""

    rows: list[Checked]
    first: int
    total: int
    next: int | None


def select(findings: Findings, wanted: Wanted, order: Order = "") -> Numbers:
    """The numbers of the rows that are wanted, words aside: a few bytes of memory each. Raises
    Invalid."""
    rows = findings.rows
    mask = np.ones(len(rows), bool)
    if wanted.split:
        start = findings.number(wanted.split, 1)
        mask[:start] = False
        mask[start + findings.dataset.splits[wanted.split] :] = False
    if wanted.issue:
        mask &= (rows["issues"] & issues.bits([wanted.issue])) != 0
    if wanted.shortest is not None:
        mask &= rows["tokens"] >= max(0, wanted.shortest)
    if wanted.longest is not None:
        mask &= rows["tokens"] <= max(0, wanted.longest)
    found = np.flatnonzero(mask)
    if order:
        lengths = rows["tokens"][found].astype(np.int64)
        found = found[np.argsort(-lengths if order == "longest" else lengths, kind="stable")]
    return found


def page(
    findings: Findings, wanted: Wanted, first: int = 0, limit: int = 20, order: Order = ""
) -> Page:
    """Up to `limit` of the wanted rows, from the place `first` among them. A search for words stops
    after `SEARCH_S`, perhaps with fewer. Raises Invalid and NotFound."""
    chosen = select(findings, wanted, order)
    if not wanted.q:
        rows = list(_read(findings, chosen[first : first + limit]))
        end = first + len(rows)
        return Page(rows, first, len(chosen), end if end < len(chosen) else None)
    until = time.monotonic() + SEARCH_S
    found: list[Checked] = []
    has_words, at = matcher(wanted.q), first
    for number, text in findings.texts(_ints(chosen[first:])):
        at += 1
        if has_words(text):
            found.append(_checked(findings, number, text))
        if len(found) == limit or time.monotonic() > until:
            break
    return Page(found, first, len(chosen), at if at < len(chosen) else None)


def numbers(findings: Findings, wanted: Wanted) -> Iterator[int]:
    """The numbers of all rows that are wanted, in their order; words are looked for on the way."""
    chosen = _ints(select(findings, wanted))
    if not wanted.q:
        yield from chosen
        return
    has_words = matcher(wanted.q)
    for number, text in findings.texts(chosen):
        if has_words(text):
            yield number


def matcher(q: str) -> Any:
    """Whether a line of JSON has these words, written as they are or with JSON's escapes."""
    forms = {json.dumps(q, ensure_ascii=ascii)[1:-1] for ascii in (True, False)}
    return re.compile("|".join(map(re.escape, sorted(forms))), re.IGNORECASE).search


def row_at(findings: Findings, split: str, line: int) -> Checked:
    """One row. Raises NotFound."""
    return next(_read(findings, np.array([findings.number(split, line)])))


def unchecked_row(dataset: Dataset, split: str, line: int) -> Checked:
    """One row of a data set whose rows nobody has checked: its text alone. Raises NotFound."""
    number_of(dataset, split, line)
    [row] = origins.placed(dataset, [(split, line)])
    return Checked(split, line, 0, [], [], row.text)


def tokens_of(findings: Findings, split: str, line: int) -> RenderedRow:
    """The row as the base model reads it, token for token. Raises Invalid when training would
    reject it, NotFound, and Unavailable."""
    offset = int(findings.rows[findings.number(split, line)]["offset"])
    report = findings.report
    answer = ask_backend(
        RenderedRow,
        "render",
        base_path(report.base_model),
        dataset_path(report.dataset) / f"{split}.jsonl",
        offset,
        report.max_seq_length,
    )
    return RenderedRow([_example(one) for one in answer.examples], answer.notes)


def _example(answer: RenderedExample | dict[str, Any]) -> RenderedExample:
    """Another process answers in JSON."""
    if isinstance(answer, RenderedExample):
        return answer
    return RenderedExample(**{**answer, "pieces": [Piece(**one) for one in answer["pieces"]]})


def parse_key(key: str) -> tuple[str, int]:
    """`train:12` as a split and a line. Raises Invalid."""
    split, _, line = key.partition(":")
    if not (split and line.isascii() and line.isdigit() and len(line) < 10):
        raise Invalid(f"Name a row as SPLIT:LINE, such as train:12, not {key[:40]!r}.")
    return split, int(line)


def _ints(chosen: Numbers) -> Iterator[int]:
    return (int(number) for number in chosen)


def _read(findings: Findings, chosen: Numbers) -> Iterator[Checked]:
    for number, text in findings.texts(_ints(chosen)):
        yield _checked(findings, number, text)


def _checked(findings: Findings, number: int, text: str) -> Checked:
    record = findings.rows[number]
    found = issues.of(int(record["issues"]))
    like = [
        Like(issue, *findings.place(int(record[column]) - 1), share)
        for issue, column, share in (
            (issues.BY_NAME["duplicate"], "same", 100),
            (issues.BY_NAME["near"], "near", int(record["share"])),
            (issues.BY_NAME["leak"], "leak", 100),
        )
        if record[column]
    ]
    return Checked(*findings.place(number), int(record["tokens"]), found, like, text)
