"""Pages of long lists: first the ids of a page, then all that is shown of those rows alone.

In one query the database would join, count and carry long columns for every row that it sorts or
skips, and drop all but a page of them.
"""

from __future__ import annotations

from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from ninja import Field
from ninja.pagination import LimitOffsetPagination

import registry.web.generics  # noqa: F401  # its classes can be subscripted

AHEAD = 2_000  # ids


def rows_between[T: Model](found: QuerySet[T], first: int, end: int) -> list[T]:
    """The rows of `found` at the places from `first` up to before `end`, in its order, which must
    be a total one: ties would fall otherwise each time."""
    return _rows(found, list(found.values_list("pk", flat=True)[first:end]))


def _rows[T: Model](found: QuerySet[T], keys: list[Any]) -> list[T]:
    return list(found.filter(pk__in=keys)) if keys else []


class RowPages[T: Model](Paginator[T]):
    """The paginator of the HTML pages, over a QuerySet. With `most` it counts and shows no more
    than so many rows: a search that finds much is not read to its end, and one that finds little,
    which takes a look at every row, is made once."""

    object_list: QuerySet[T]

    def __init__(
        self, object_list: QuerySet[T], per_page: int, *args: Any, most: int | None = None
    ) -> None:
        super().__init__(object_list, per_page, *args)
        self.most = most

    @cached_property
    def keys(self) -> list[Any]:
        """The ids of all that is shown, where that is at most so much."""
        return list(self.object_list.values_list("pk", flat=True)[: self.most])

    @cached_property
    def count(self) -> int:
        return len(self.keys) if self.most else self.object_list.order_by().count()

    def page(self, number: int | str) -> Page[T]:
        number = self.validate_number(number)
        first = (number - 1) * self.per_page
        end = min(first + self.per_page, self.count)
        if self.most:
            return Page(_rows(self.object_list, self.keys[first:end]), number, self)
        if first > self.count // 2:  # the way from the end is shorter
            rows = rows_between(self.object_list.reverse(), self.count - end, self.count - first)
            return Page(rows[::-1], number, self)
        return Page(rows_between(self.object_list, first, end), number, self)


class LimitOffset(LimitOffsetPagination):
    """The paginator of the API: `limit`, `offset` and `count`."""

    class Input(LimitOffsetPagination.Input):
        offset: int = Field(0, ge=0, le=10**15)

    def paginate_queryset(
        self,
        queryset: QuerySet[Any],
        pagination: LimitOffsetPagination.Input,
        request: HttpRequest,
        **params: Any,
    ) -> dict[str, Any]:
        first, limit = pagination.offset, min(pagination.limit, self.max_limit)
        keys = list(queryset.values_list("pk", flat=True)[first : first + limit + AHEAD])
        # Where the list ends within sight its length is known, and what finds little, which takes
        # a look at every row, is not searched for twice.
        ends = len(keys) < limit + AHEAD and (keys or not first)
        count = first + len(keys) if ends else queryset.count()
        return {self.items_attribute: _rows(queryset, keys[:limit]), "count": count}
