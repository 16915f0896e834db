"""Reading the files of one data set: every example checked, every mistake with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from registry.background.progress import SILENT, Progress
from registry.datasets import sources
from registry.datasets.formats import FIELDS, canonical
from registry.datasets.sources import BadLine, Row
from registry.errors import Invalid
from registry.models import Dataset

__all__ = ["FIELDS", "BadExamples", "Reader"]

_SHOWN = 5  # in one sentence
_KEPT = 200  # on a page
_EVERY = 5_000  # examples between two reports of progress


class BadExamples(Invalid):
    """The examples are wrong; `problems` are the first 200 mistakes of `total`, in order."""

    def __init__(self, problems: Sequence[str], total: int) -> None:
        more = f" And {total - _SHOWN} more." if total > _SHOWN else ""
        super().__init__(" ".join(problems[:_SHOWN]) + more)
        self.problems = list(problems)
        self.total = total


@dataclass
class Reader:
    """Reads files of one data set: the first example decides the format of all of them.

    `columns` maps the names that training reads to the files' own. Problems are collected, so
    that a person can fix several at once; `check` raises them.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    progress: Progress = SILENT
    format: Dataset.Format | None = None
    characters: int = 0
    longest: int = 0
    read_so_far: int = 0
    problems: list[str] = field(default_factory=list)
    wrong: int = 0
    _share: float = 0.0

    def read(self, path: Path) -> Iterator[str]:
        """Every good example of `path`, as a line of JSON without line end.

        A JSON line that training reads as it is stays as it is, byte for byte.
        """
        for number, row in sources.rows(path, self._tick):
            try:
                line = self._line(row)
            except BadLine as error:
                self._note(f"{path.name} line {number}: {error}")
                continue
            yield line

    def check(self) -> Dataset.Format:
        """The format of what was read. Raises BadExamples with the problems that `read` met."""
        if self.problems:
            raise BadExamples(self.problems, self.wrong)
        if self.format is None:
            raise Invalid("The file holds no example.")
        return self.format

    def _line(self, row: Row | str | BadLine) -> str:
        if isinstance(row, BadLine):
            raise row
        given = sources.parse(row) if isinstance(row, str) else row
        found, example = canonical(given, self.columns)
        self.format = self.format or found
        if found != self.format:
            raise BadLine(f"is a {found} example in a data set of {self.format} examples.")
        line = row if isinstance(row, str) and example is given else self._dump(found, example)
        self.characters += len(line)
        self.longest = max(self.longest, len(line))
        self.read_so_far += 1
        if self.read_so_far % _EVERY == 0:
            self.progress.part(self._share, examples=self.read_so_far)
        return line

    def _dump(self, format: Dataset.Format, example: Row) -> str:
        """As JSON. What no training reads may hold what JSON cannot say, and is left out then."""
        try:
            return sources.dump(example)
        except BadLine:
            return sources.dump({key: example[key] for key in FIELDS[format] if key in example})

    def _tick(self, share: float) -> None:
        self._share = share

    def _note(self, problem: str) -> None:
        self.wrong += 1
        if len(self.problems) < _KEPT:
            self.problems.append(problem)
