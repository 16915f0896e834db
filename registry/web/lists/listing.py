"""What a list has, and what one request asks of it.

A page of the hub says once what its list is (`Listing`), asks it with each request
(`Listing.asked`), finds its rows with the query that it gets, and answers with `Shown.render`.
`templates/_list.html` draws it; the page's own template has a partial for each column that is more
than a figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.db.models import Model, QuerySet
from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse

from registry.web.htmx import HtmxRequest, is_part
from registry.web.lists.actions import Action
from registry.web.lists.filters import Bounds, Filter, bounds
from registry.web.lists.keyset import Order, Page, Place, page_of
from registry.web.numbers import whole

MOST_PAGES = 100_000


@dataclass(frozen=True)
class Column:
    """One column. Its cells are drawn by the partial `name` of the page's template, or, with `show`,
    are the attribute `name` as that filter of `display` shows it."""

    name: str
    label: str
    show: str = ""
    kind: str = ""
    """Classes of its cells: `n` for figures, `fit`, `wrap`."""
    phone: str = ""
    """On a phone a row has two lines: its title and what stands at the `end` of that line, and below
    each `line`. Other columns are not there."""
    order: Order | None = None
    sort: str = ""
    """What its order is called in the address, where that is not its name."""
    shown: bool = True
    """Whether it is shown unless somebody chooses otherwise."""
    room: bool = False
    """Whether it makes room for a summary beside the list."""

    @property
    def sorts(self) -> str:
        return self.sort or self.name


@dataclass(frozen=True)
class Listing[T: Model]:
    """A list. `sort` is the column it is ordered by at first; the first column is the row's title."""

    noun: str
    columns: tuple[Column, ...]
    sort: str
    filters: tuple[Filter, ...] = ()
    actions: tuple[Action[T], ...] = ()
    acts_at: str = ""
    """The name of the address of its actions, whose last argument is one of theirs."""
    summary: bool = False
    """Whether the page's template has a partial `summary` of one row."""
    menu: bool = False
    """Whether the page's template has a partial `menu`: what else a row's menu has."""
    above: bool = False
    """Whether the page's template has a partial `above`, shown over the rows."""
    heading: Callable[[T], str] = str
    """The title of a row's summary."""
    key: str = "pk"
    """The attribute of a row by which a form names it."""
    size: int = 25
    defer: tuple[str, ...] = ()
    """Long columns that only the summary shows."""
    plural: str = ""

    @property
    def nouns(self) -> str:
        return self.plural or f"{self.noun}s"

    def asked(self, request: HtmxRequest, at: str = "", args: Sequence[Any] = ()) -> Shown[T]:
        """What the request asks of this list. `at` is the page's address where that isn't the
        request's, `args` what the address of its actions needs besides the action."""
        return Shown(self, request, at or request.path, tuple(args))

    @cached_property
    def orders(self) -> dict[str, Column]:
        """By the words of the address, the columns that can be sorted by."""
        return {column.sorts: column for column in self.columns if column.order}


@dataclass(frozen=True)
class Head:
    """A column's head: where a click leads, and how the rows are ordered by it now."""

    column: Column
    url: str = ""
    direction: str = ""


@dataclass
class Shown[T: Model]:
    """A list as one request asks for it."""

    listing: Listing[T]
    request: HtmxRequest
    at: str
    args: tuple[Any, ...] = ()
    found: Page[T] = field(default_factory=lambda: Page([]))
    row: T | None = None
    partials: dict[str, Any] = field(default_factory=dict)
    """Of the page's template, loaded once."""
    drawn: dict[str, Any] = field(default_factory=dict)
    """What was asked once for the cells of all rows, by a name."""

    # ------------------------------------------------------------------ what is asked

    @cached_property
    def query(self) -> dict[str, str]:
        """Each parameter of the filters, as it was given or as it is by default."""
        given = self.request.GET
        return {
            name: given.get(name, "").strip() or one.default
            for one in self.listing.filters
            for name in one.names
        }

    @property
    def bounds(self) -> Bounds:
        """The span of time that is asked for."""
        return bounds(self.query)

    @property
    def is_filtered(self) -> bool:
        defaults = {name: f.default for f in self.listing.filters for name in f.names}
        return any(value != defaults[name] for name, value in self.query.items())

    @cached_property
    def sort(self) -> tuple[str, bool]:
        """By which column's order, and whether backwards: `-name` is the order of `name` reversed."""
        asked = self.request.GET.get("sort", "")
        name = asked.removeprefix("-")
        known = name in self.listing.orders
        return (name, asked.startswith("-")) if known else (self.listing.sort, False)

    @cached_property
    def columns(self) -> list[Column]:
        """Those that are shown, in the list's own order; the title is always there."""
        chosen = set(self.request.GET.getlist("columns"))
        title, *others = self.listing.columns
        return [title, *(c for c in others if (c.name in chosen if chosen else c.shown))]

    @cached_property
    def place(self) -> Place:
        given = self.request.GET
        page = min(whole(given.get("page", "")) or 1, MOST_PAGES)
        return Place(whole(given.get("before", "")), whole(given.get("after", "")), page)

    @cached_property
    def part(self) -> str:
        """The part of the page that htmx asks for: `drawer`, `rows`, or "" for the page."""
        if not is_part(self.request):
            return ""
        return "drawer" if self.request.htmx.target == "drawer" else "rows"

    # ---------------------------------------------------------------------- the answer

    def show(self, found: QuerySet[T]) -> Shown[T]:
        """With the rows of `found` that belong on the page, and the one whose summary is asked for."""
        opened = self.request.GET.get("open", "")
        if self.listing.summary and opened:
            pk = whole(opened)
            self.row = found.order_by().filter(pk=pk).first() if pk is not None else None
        if self.part != "drawer":
            name, backwards = self.sort
            order = self.listing.orders[name].order
            assert order is not None
            self.found = page_of(
                found.defer(*self.listing.defer) if self.listing.defer else found,
                order,
                self.place,
                self.listing.size,
                backwards,
            )
        return self

    @property
    def heading(self) -> str:
        return self.listing.heading(self.row) if self.row is not None else ""

    @property
    def rows(self) -> list[T]:
        return self.found.rows

    def render(
        self, template: str, context: Mapping[str, Any] | None = None, status: int = 200
    ) -> HttpResponse:
        """The page, or the part of it that htmx asks for."""
        name = f"_list.html#{self.part}" if self.part else template
        return render(self.request, name, self.context(template, context), status=status)

    def context(self, template: str, context: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What the page and its part need; `template` has the partials of the columns."""
        return {
            "list": self,
            "cells": template,
            "rows": self.rows,
            "row": self.row,
            "query": self.query,
            **(context or {}),
        }

    # --------------------------------------------------------------------- where links lead

    def link(self, **changes: Any) -> str:
        """The list's address with some of its parameters changed, from the first page on."""
        query = self.request.GET.copy()
        for name in ("before", "after", "page", "open"):
            query.pop(name, None)
        for name, value in changes.items():
            query[name] = str(value)
        for name in [name for name, value in query.items() if not value]:
            del query[name]
        return _address(self.at, query)

    @property
    def plain(self) -> str:
        """The list without filters, in the order and with the columns that are chosen."""
        return self.link(**dict.fromkeys(self.query, ""))

    @property
    def here(self) -> str:
        """This very page of the list."""
        query = self.request.GET.copy()
        query.pop("open", None)
        return _address(self.at, query)

    @property
    def first(self) -> str:
        return "" if self.place.is_first else self.link()

    @property
    def older(self) -> str:
        return self.link(before=self.rows[-1].pk) if self.found.has_older and self.rows else ""

    @property
    def newer(self) -> str:
        return self.link(after=self.rows[0].pk) if self.found.has_newer and self.rows else ""

    @property
    def heads(self) -> list[Head]:
        sort, backwards = self.sort
        heads = []
        for column in self.columns:
            if column.order is None:
                heads.append(Head(column))
                continue
            own = column.sorts == sort
            falls = column.order.terms(backwards)[0].descending
            turned = f"-{sort}" if not backwards else sort
            word = ("descending" if falls else "ascending") if own else ""
            heads.append(Head(column, self.link(sort=turned if own else column.sorts), word))
        return heads

    @property
    def narrowed(self) -> str:
        """The label of the figure that rows must have to be in the order that was chosen."""
        column = self.listing.orders[self.sort[0]]
        return column.label.lower() if column.order and column.order.needs else ""

    @property
    def by_time(self) -> bool:
        """Whether the first page has the newest rows."""
        name, backwards = self.sort
        return name == self.listing.sort and not backwards

    @property
    def fields(self) -> list[tuple[Filter, str, str]]:
        """Each filter, its value, and where the list is without it."""
        return [
            (one, self.query[one.names[0]], self.link(**dict.fromkeys(one.names, "")))
            for one in self.listing.filters
        ]

    @property
    def span(self) -> str:
        """The span that is chosen; one by days is `custom`."""
        chosen = self.query.get("span", "")
        by_days = not chosen and (self.query.get("since") or self.query.get("until"))
        return "custom" if by_days else chosen

    @property
    def choices(self) -> list[tuple[Column, bool]]:
        """The columns that can be hidden, and whether each is shown."""
        return [(column, column in self.columns) for column in self.listing.columns[1:]]

    def actions_of(self, row: T) -> list[tuple[Action[T], str]]:
        """What can be done with that row, and where."""
        return [(a, url) for a, url in self.actions if not a.only_many and not a.refuses(row)]

    @cached_property
    def actions(self) -> list[tuple[Action[T], str]]:
        """Each action with its address."""
        at, listing = self.args, self.listing
        return [(a, reverse(listing.acts_at, args=[*at, a.name])) for a in listing.actions]


def _address(at: str, query: QueryDict) -> str:
    text = query.urlencode()
    return f"{at}?{text}" if text else at
