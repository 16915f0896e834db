"""What a list is filtered by, as its address says it, and spans of time."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from django.utils import timezone
from django.utils.dateparse import parse_date

SPANS = {
    "1h": ("Last hour", datetime.timedelta(hours=1)),
    "24h": ("Last 24 hours", datetime.timedelta(days=1)),
    "7d": ("Last 7 days", datetime.timedelta(days=7)),
    "30d": ("Last 30 days", datetime.timedelta(days=30)),
}
"""Of the parameter `span`; besides these there is `custom`, whose days are `since` and `until`."""

Options = Iterable[tuple[Any, Any]]


@dataclass(frozen=True)
class Filter:
    """One field of the form above a list, by the name of its parameter."""

    name: str
    label: str
    kind: Literal["search", "text", "choice", "hidden", "span"] = "choice"
    hint: str = ""
    """The placeholder of a field, the words of a choice of all."""
    options: Options | Callable[[], Options] = ()
    default: str = ""
    words: Callable[[str], str] = str
    """How a value that was given by a link is shown (`hidden`)."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its parameters."""
        return ("span", "since", "until") if self.kind == "span" else (self.name,)

    def offered(self) -> list[tuple[str, str]]:
        """(value, words) of each choice."""
        options = self.options() if callable(self.options) else self.options
        return [(str(value), str(words)) for value, words in options]


@dataclass(frozen=True)
class Bounds:
    """A span of time; the end is excluded."""

    since: datetime.datetime | None = None
    until: datetime.datetime | None = None

    def of(self, column: str) -> dict[str, datetime.datetime]:
        """As arguments of `filter`."""
        asked = {f"{column}__gte": self.since, f"{column}__lt": self.until}
        return {name: moment for name, moment in asked.items() if moment is not None}


def bounds(query: Mapping[str, str]) -> Bounds:
    """What the parameters of a span mean; days are those of UTC, and the last one is included.
    What is no day bounds nothing."""
    if query.get("span") in SPANS:
        return Bounds(since=timezone.now() - SPANS[query["span"]][1])
    if query.get("span") == "any":
        return Bounds()
    last = _day(query.get("until", ""))
    return Bounds(_day(query.get("since", "")), last and last + datetime.timedelta(days=1))


def _day(text: str) -> datetime.datetime | None:
    """The beginning of that day in UTC; None for what is no day."""
    try:
        found = parse_date(text)
    except ValueError:  # 30 February
        return None
    if found is None or not 1970 <= found.year <= 9000:
        return None
    return datetime.datetime.combine(found, datetime.time(), datetime.UTC)


SPAN = Filter(
    "span",
    "Time",
    "span",
    options=[*((name, words) for name, (words, _) in SPANS.items()), ("custom", "Custom…")],
)
