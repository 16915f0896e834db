"""Searching the long tables of the admin: the form of each word decides where it is searched.

The admin's own search looks for every word in every field, over joins, so that each row is read:
that is, of 100,000 versions with their parameters, a hundred megabytes. Here names are looked for
among the few things that have them, and the rows then come from an index.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from django.contrib import admin
from django.db.models import Model as Row
from django.db.models import Q, QuerySet
from django.http import HttpRequest

import registry.web.generics  # noqa: F401  # its classes can be subscripted
from registry.models import Dataset, Model

_FEW = 100

if TYPE_CHECKING:
    _Admin = admin.ModelAdmin
else:  # a class that is mixed in

    class _Admin[T]:
        pass


class Searched[T: Row](_Admin[T]):
    """All words of a search must be found; `search_fields` only makes the box appear. `shown` are
    the fields that the list needs: reading the long ones of every row costs as much as the search."""

    shown: tuple[str, ...] = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[T]:
        rows = super().get_queryset(request)
        match = request.resolver_match
        listed = match is not None and str(match.url_name).endswith("_changelist")
        return rows.only(*self.shown) if listed and self.shown else rows

    def found_by(self, word: str) -> Q | None:
        """Which rows this word means, or None where it means nothing."""
        raise NotImplementedError

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[T], search_term: str
    ) -> tuple[QuerySet[T], bool]:
        for word in search_term.split():
            found = self.found_by(word)
            queryset = queryset.none() if found is None else queryset.filter(found)
        return queryset, False


def of_model_or_dataset(part: str) -> Q | None:
    """Of the models with this in their name; where there are none, of the data sets; else None.

    By their very ids, also where they are many: of a subquery PostgreSQL guesses how much it will
    find, and then reads and sorts twenty thousand rows for a page (24 ms instead of 0.3)."""
    for kind, field in ((Model, "model"), (Dataset, "dataset")):
        named = kind.objects.filter(name__icontains=part).order_by()
        if keys := list(named.values_list("pk", flat=True)):
            return Q(**{f"{field}__in": keys})
    return None


def either(kind: type[Row], *found: Q) -> Q:
    """The rows of any of these searches, each of which has its index: the ids of the few that are
    found, so that no search is made twice, or where they are many, the searches."""
    keys: set[object] = set()
    for one in found:
        rows = kind._default_manager.filter(one).order_by()
        keys.update(rows.values_list("pk", flat=True)[: _FEW + 1])
        if len(keys) > _FEW:
            return reduce(or_, found)
    return Q(pk__in=keys)


def starting(field: str, digits: str) -> Q:
    """Hexadecimal texts that start so, as a range, which every database takes from an index."""
    return Q(**{f"{field}__gte": digits, f"{field}__lt": digits + "g"})
