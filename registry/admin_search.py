"""Searching the long tables of the admin: each word tells by its look what is searched for it.

The admin's own search looks for every word in every field, over joins, so that each row is read:
that is, of 100,000 versions with their parameters, a hundred megabytes. Here names are looked for
among the few things that have them, and the rows then come from an index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.db.models import Model as Row
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from registry.models import Dataset, Model

if TYPE_CHECKING:
    _Admin = admin.ModelAdmin
else:  # a class that is mixed in

    class _Admin[T]:
        pass


class Searched[T: Row](_Admin[T]):
    """All words of a search must be found; `search_fields` only makes the box appear."""

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
    """Of the models with this in their name; where there are none, of the data sets; else None."""
    models = list(
        Model.objects.filter(name__icontains=part).order_by().values_list("pk", flat=True)
    )
    if models:
        return Q(model__in=models)
    named = Dataset.objects.filter(name__icontains=part).order_by()
    datasets = list(named.values_list("pk", flat=True))
    return Q(dataset__in=datasets) if datasets else None


def starting(field: str, digits: str) -> Q:
    """Hexadecimal texts that start so, as a range, which every database takes from an index."""
    return Q(**{f"{field}__gte": digits, f"{field}__lt": digits + "g"})
