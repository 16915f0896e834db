"""Outcomes as people read them: a row for each behaviour or client, a column for each API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference.clients import checks, suite
from inference.clients.faces import FACES
from inference.clients.suite import Outcome
from inference.models import ClientCheck

APIS: Sequence[str] = [face.title for face in FACES]


@dataclass(frozen=True)
class Row:
    """`cells` has an outcome for each API, None where it has no words for it."""

    name: str
    title: str
    cells: tuple[Outcome | None, ...]

    @property
    def named(self) -> list[tuple[str, Outcome | None]]:
        """Each cell with its API, for a template."""
        return list(zip(APIS, self.cells, strict=True))


@dataclass(frozen=True)
class Report:
    """What a completed check says. `lost` are outcomes that the base has and the version has not,
    `lost_to_production` the same of the version in production."""

    rows: list[Row]
    lost: list[Outcome]
    lost_to_production: list[Outcome]
    broken: list[Outcome]
    passed: int
    judged: int

    @property
    def reasons(self) -> list[tuple[str, str, Outcome]]:
        """(title, API, outcome) of all that did not pass."""
        apis = {face.name: face.title for face in FACES}
        cells = [(row.title, cell) for row in self.rows for cell in row.cells if cell]
        return [(title, apis[cell.face], cell) for title, cell in cells if cell.state != "passed"]


def report(check: ClientCheck) -> Report:
    outcomes = checks.read(check.outcomes)
    by_place = {(one.name, one.face): one for one in outcomes}
    titles = suite.titles()
    names = dict.fromkeys(one.name for one in outcomes)
    ordered = [name for name in titles if name in names] + [n for n in names if n not in titles]
    rows = [
        Row(name, titles.get(name, name), tuple(by_place.get((name, f.name)) for f in FACES))
        for name in ordered
    ]
    judged = [one for one in outcomes if one.state in ("passed", "failed") and not one.promised]
    return Report(
        rows=rows,
        lost=suite.lost(outcomes, checks.read(check.base_outcomes)),
        lost_to_production=suite.lost(outcomes, checks.in_production(check)),
        broken=[one for one in outcomes if one.state == "broken"],
        passed=sum(one.state == "passed" for one in judged),
        judged=len(judged),
    )
