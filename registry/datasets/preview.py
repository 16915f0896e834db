"""What a source would become as a data set, before anything is kept: the same reading, of a few
rows where the source is large."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registry.datasets import labels
from registry.datasets.dialects.table import DIALECTS, Dialect
from registry.datasets.examination import spoiled
from registry.datasets.files.rows import packing
from registry.datasets.formats import COLUMNS
from registry.datasets.reading import limited
from registry.datasets.reading.examples import BadExamples, Reader
from registry.datasets.reading.file import Asked, Event
from registry.datasets.snapshots import check_columns
from registry.datasets.splits import split_hub_files, write_splits
from registry.datasets.uploads import size_of
from registry.errors import Invalid, NotFound
from registry.models import Dataset
from registry.storage import artifacts, paths

WHOLE = 4 << 20
"""Bytes of a source that is read to its end, if that is not after `MOST_ROWS` of a file: a second
or two."""
MOST_ROWS = 50_000
ROWS = 1_000
"""Rows that are read of each file of a larger one; ten times as many of a compressed file, whose
share is known only roughly before."""
SHOWN = 3
"""Rows of each split that are shown."""
FILES = 3
"""Files of each split that are read of a larger source."""

_PROBLEMS = 20
_CUT = 1_200  # characters of one text of an example
_ITEMS = 30  # messages of an example

_NAMED = {dialect.name: dialect for dialect in DIALECTS}

type Found = list[tuple[Dialect, list[str]]]
"""The dialects of the rows, each with the fields that they had."""


@dataclass(frozen=True)
class Sample:
    """A row of a file, and the example that it becomes or what is wrong with it. Long texts are
    cut."""

    split: str
    file: str
    place: str
    given: dict[str, str]
    becomes: dict[str, Any] | None
    problem: str


@dataclass(frozen=True)
class Way:
    """Another dialect that the columns fit, with the mapping that chooses it."""

    name: str
    columns: dict[str, str]


@dataclass(frozen=True)
class Preview:
    """`format` is "" when nothing could be read. `splits` are examples, estimated unless `exact`.
    `uses` says of each column of the files which of `formats.COLUMNS` it becomes; "" is nothing.
    `problems` are the first of `wrong` mistakes; with any, nothing can be registered. `warnings` are
    what a person should look at first. `longest` is the longest example, in characters, and `labels`
    how many a classification set has; both of what was read."""

    format: str
    read_as: list[str]
    why: list[str]
    splits: dict[str, int]
    exact: bool
    files: dict[str, list[str]]
    uses: dict[str, str]
    unused: list[str]
    notes: list[str]
    samples: list[Sample]
    problems: list[str]
    wrong: int
    others: list[Way]
    warnings: list[str] = field(default_factory=list)
    longest: int = 0
    labels: int = 0

    @property
    def format_name(self) -> str:
        """The format as a person reads it, "" for none."""
        return str(Dataset.Format(self.format).label) if self.format else ""


def preview(
    source: Path,
    *,
    columns: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    hub: bool = False,
) -> Preview:
    """What `register_dataset` would make of `source`. Raises Invalid for a field that no column
    can be mapped to, and NotFound."""
    check_columns(columns or {})
    if not source.exists():
        raise NotFound(f"There is nothing at {source}.")
    few = size_of(source, nested=hub) > WHOLE
    sampler = _Sampler(columns=columns or {}, names=names or {}, few=few)
    counts: dict[str, int] = {}
    failed = ""
    scratch = paths.staging_dir("preview")
    try:
        counts = (split_hub_files if hub else write_splits)(source, scratch, sampler)
        sampler.look(scratch, counts)
    except BadExamples:
        pass  # its problems are the sampler's
    except Invalid as error:
        failed = str(error)
    finally:
        artifacts.discard(scratch)
    return sampler.preview(counts, failed)


@dataclass
class _Sampler(Reader):
    """Reads the beginning of each file, and keeps what a person sees of it."""

    few: bool = False
    samples: list[Sample] = field(default_factory=list)
    columns_seen: dict[str, None] = field(default_factory=dict)
    exact: bool = True
    warnings: list[str] = field(default_factory=list)
    labelled: int = 0
    _rows: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By the split of their files, how many rows there seem to be."""
    _bytes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Of the files that were read, by split."""

    def read(self, path: Path, split: str = "") -> Iterator[str]:
        name = self.name(path)
        named = self.files.setdefault(split, [])
        named.append(name)
        size = path.stat().st_size
        if self.few and len(named) > FILES and self._bytes[split]:
            self.exact = False
            self._rows[split] += self._rows[split] * size / self._bytes[split]
            self._bytes[split] += size
            return
        rows, share, whole = 0, 0.0, True
        most = ROWS * (10 if packing(path) else 1) if self.few else MOST_ROWS
        asked = Asked(self.columns, self.kind, name, most, SHOWN)
        for event in limited.read(path, asked):
            self.take(event, name)
            if event.found:
                whole = event.found.whole
                self.columns_seen |= dict.fromkeys(event.found.columns)
                continue
            rows, share = rows + 1, event.share
            if event.shown and sum(one.split == split for one in self.samples) < SHOWN:
                self.samples.append(_sample(split, name, event))
            if event.line is not None:
                yield event.line
        self.exact &= whole
        self._rows[split] += rows if whole else rows / max(share, 1e-9)
        self._bytes[split] += size

    def check(self) -> Dataset.Format:
        """The format of the good examples, if there is any: mistakes are shown beside them."""
        if self.kind is None and self.problems:
            raise BadExamples(self.problems, self.wrong)
        problems, self.problems = self.problems, []
        try:
            return super().check()
        finally:
            self.problems = problems

    def look(self, folder: Path, counts: Mapping[str, int]) -> None:
        """Note what the splits in `folder` have wrong: of a source that was read to its end, since
        the beginnings of files say little about repeats."""
        if not self.problems:
            self.labelled = len(labels.count_labels(folder, counts))
            self.warnings = spoiled(folder, counts) if self.exact else []

    def preview(self, counts: dict[str, int], failed: str) -> Preview:
        """What was seen, after the splits were written."""
        format = self.check() if self.kind else ""
        row = Dataset(schema=self.schema() if self.kind else {})
        found = [(_NAMED[name], keys) for name, keys in self._dialects.items()]
        uses = self._uses(found)
        problems = [*([failed] if failed else []), *self.problems[:_PROBLEMS]]
        return Preview(
            format=format,
            read_as=row.read_as,
            why=[_why(dialect, keys, self.columns) for dialect, keys in found],
            splits=counts if self.exact else self._estimated(counts),
            exact=self.exact,
            files=row.files or self.files,
            uses=uses,
            unused=row.unused,
            notes=row.notes,
            samples=self.samples,
            problems=problems,
            wrong=self.wrong + bool(failed),
            others=_others(list(self.columns_seen), found, uses),
            warnings=self.warnings,
            longest=self.longest,
            labels=self.labelled,
        )

    def _uses(self, found: Found) -> dict[str, str]:
        """Which of `COLUMNS` each column of the files becomes."""
        unused = set(self._unused)
        if self.columns:
            chosen = {name: key for key, name in self.columns.items()}
        else:
            chosen = {}
            for dialect, keys in found:
                chosen |= dialect.mapping(key for key in keys if key not in unused)
        return {name: chosen.get(name, "") for name in self.columns_seen}

    def _estimated(self, counts: dict[str, int]) -> dict[str, int]:
        """The counts of what was read, as they may be of everything."""
        sources = {split: _source(split, self._rows) for split in counts}
        read: dict[str, int] = defaultdict(int)
        for split, count in counts.items():
            read[sources[split]] += count
        return {
            split: _rounded(count * self._rows[sources[split]] / max(1, read[sources[split]]))
            for split, count in counts.items()
        }


def _source(split: str, rows: Mapping[str, float]) -> str:
    """The split of the files that this split's examples are from."""
    return split if split in rows else "" if "" in rows else "train"


def _rounded(count: float) -> int:
    """With two digits that mean something."""
    return int(float(f"{count:.2g}"))


def _sample(split: str, name: str, event: Event) -> Sample:
    assert event.shown is not None
    place, given = event.shown
    becomes = _cut(json.loads(event.line)) if event.line is not None else None
    problem = (event.problem or "").removeprefix(f"{place}: ")
    return Sample(split, name, place, given, becomes, problem)


def _cut(value: Any) -> Any:
    """An example with texts and lists of bounded length."""
    if isinstance(value, str):
        return value if len(value) <= _CUT else f"{value[:_CUT]}…"
    if isinstance(value, list):
        return [_cut(item) for item in value[:_ITEMS]]
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in list(value.items())[:_ITEMS]}
    return value


def _why(dialect: Dialect, keys: list[str], columns: Mapping[str, str]) -> str:
    """Why rows were taken for this dialect, in a sentence."""
    if columns:
        return f"{dialect.name}, by the columns that you chose."
    needed = [key for key in dialect.needs if key in keys]
    if len(needed) < len(dialect.needs):  # in columns of other names
        needed = [key for key, use in dialect.mapping(keys).items() if use in dialect.needs]
    more = f", with {dialect.because}" if dialect.because else ""
    also = [key for key in keys if key not in needed]
    beside = f"; {', '.join(also)} beside {'them' if len(needed) > 1 else 'it'}" if also else ""
    return f"{dialect.name}, since rows have {' and '.join(needed)}{more}{beside}."


def _others(columns: list[str], found: Found, uses: Mapping[str, str]) -> list[Way]:
    """The other dialects whose columns are there: not those that only values tell apart, nor
    those that use less of what is used already."""
    ways: list[Way] = []
    used = {name for name, key in uses.items() if key}
    names = {dialect.name for dialect, _ in found}
    for dialect in DIALECTS:
        if dialect.name in names or dialect.because or not set(dialect.needs) <= set(columns):
            continue
        mapped: dict[str, str] = {}
        for name, key in dialect.mapping(
            name for name in dialect.fields if name in columns
        ).items():
            mapped.setdefault(key, name)
        new = {name: key for key, name in mapped.items()}
        less = new.keys() < used or all(uses[name] == key for name, key in new.items())
        if set(mapped) <= set(COLUMNS) and not less:
            ways.append(Way(dialect.name, mapped))
    return ways
