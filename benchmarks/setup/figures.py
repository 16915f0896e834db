"""What a benchmark that compares several contenders found, and the limits it has to keep."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from benchmarks.setup.hub import machine


@dataclass
class Bar:
    """A figure and its limit."""

    name: str
    value: float
    limit: float
    at_least: bool = True

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{self.name} {self.value:.2f} ({sign} {self.limit:g})"


@dataclass
class Figures:
    """What was measured, by name and contender, and the bars over it."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    bars: list[Bar] = field(default_factory=list)

    def add(self, name: str, contender: str, value: float) -> None:
        self.values.setdefault(name, {}).setdefault(contender, []).append(value)

    def ratio(self, name: str, one: str, other: str) -> float:
        mine, theirs = self.values[name][one], self.values[name][other]
        return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))

    def hold(
        self,
        name: str,
        one: str,
        limit: float,
        *,
        at_least: bool = True,
        beside: Sequence[str] = (),
    ) -> None:
        """A bar on the ratio of `one` to each other contender but those whose names begin with `one`
        or with one of `beside`, which are only shown."""
        for other in self.values.get(name, {}):
            if not other.startswith((one, *beside)):
                ratio = self.ratio(name, one, other)
                self.bars.append(Bar(f"{name}: times {other}", ratio, limit, at_least))

    def show(self, title: str) -> None:
        table = Table(title=f"{title} ({machine()})")
        for heading in ("figure", "who", "median", "lowest", "highest"):
            table.add_column(heading, justify="left" if heading in ("figure", "who") else "right")
        for name, by_contender in self.values.items():
            for contender, values in by_contender.items():
                figures = (statistics.median(values), min(values), max(values))
                table.add_row(name, contender, *(f"{figure:.1f}" for figure in figures))
        Console(width=110).print(table)
        for bar in self.bars:
            print(f"{'met   ' if bar.met else 'MISSED'} {bar}")


def turns(number: int, names: Sequence[str]) -> Sequence[str]:
    """The contenders in turns: each goes first as often as last."""
    return names if number % 2 == 0 else names[::-1]
