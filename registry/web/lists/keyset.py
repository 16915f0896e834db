"""Pages that begin behind a row: a page costs the same at any depth, and nothing is counted.

Where a page begins is said by the id of the row before it. The database finds that row's place in
the order, and reads on from there in an index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import F, Model, Q, QuerySet
from django.db.models.expressions import OrderBy


@dataclass(frozen=True)
class Order:
    """By what rows are ordered, such as `("-created_at", "-pk")` or `(Lower("name").asc(), "pk")`:
    the last of it is unique, and one index has it all. `needs` is a column that may be empty: rows
    without it have no place in this order."""

    by: tuple[str | OrderBy, ...]
    needs: str = ""

    def terms(self, backwards: bool = False) -> list[OrderBy]:
        """As expressions; `backwards` the other way round."""
        terms = [_term(one) for one in self.by]
        return (
            [OrderBy(t.expression, descending=not t.descending) for t in terms]
            if backwards
            else terms
        )


def _term(one: str | OrderBy) -> OrderBy:
    if isinstance(one, OrderBy):
        return one
    return OrderBy(F(one.removeprefix("-")), descending=one.startswith("-"))


@dataclass(frozen=True)
class Place:
    """Where a page lies: behind the row `before` (an id), or in front of the row `after`. `page` is
    a number as older links have it, which costs more the further it is."""

    before: int | None = None
    after: int | None = None
    page: int = 1

    @property
    def is_first(self) -> bool:
        return self.before is None and self.after is None and self.page == 1


@dataclass(frozen=True)
class Page[T: Model]:
    """The rows of a page, and whether there are some in front of it and behind it."""

    rows: list[T]
    has_newer: bool = False
    has_older: bool = False


def page_of[T: Model](
    found: QuerySet[T], order: Order, place: Place, size: int, backwards: bool = False
) -> Page[T]:
    """The page at that place: first its ids, then all that is shown of those rows alone. From the
    beginning where the row that the place names is gone."""
    if order.needs:
        found = found.filter(**{f"{order.needs}__isnull": False})
    up = place.before is None and place.after is not None
    terms = order.terms(backwards)
    cursor = place.after if up else place.before
    key = _key(found, terms, cursor) if cursor is not None else None
    if key is None:
        up, cursor = False, None
    walked = order.terms(not backwards) if up else terms
    rest = _behind(found, walked, key) if key is not None else found
    skipped = (place.page - 1) * size if key is None else 0
    ids = list(rest.order_by(*walked).values_list("pk", flat=True)[skipped : skipped + size + 1])
    more, ids = len(ids) > size, ids[:size]
    if up and not more:  # nothing lies in front of these: that is the first page, and a whole one
        return page_of(found, order, Place(), size, backwards)
    by_id = {row.pk: row for row in found.filter(pk__in=ids)} if ids else {}
    rows = [by_id[pk] for pk in (reversed(ids) if up else ids) if pk in by_id]
    return Page(rows, has_newer=up or key is not None or skipped > 0, has_older=up or more)


def _key(found: QuerySet[Any], terms: Sequence[OrderBy], pk: int) -> tuple[Any, ...] | None:
    """What the row of that id is ordered by; None when it is gone. The row may have left the
    filters since, unless only they know what it is ordered by."""
    names = {getattr(term.expression, "name", "") for term in terms}
    computed = names & set(found.query.annotations)
    rows = found if computed else found.model._base_manager.using(found.db).all()
    values = {f"_by{n}": term.expression for n, term in enumerate(terms)}
    row = rows.filter(pk=pk).order_by().annotate(**values).values_list(*values).first()
    return row if row is None or None not in row else None


def _behind(found: QuerySet[Any], terms: Sequence[OrderBy], key: Sequence[Any]) -> QuerySet[Any]:
    """The rows that come after that key. The first column alone bounds them as well, which is what
    a database seeks in an index."""
    behind, same = Q(), dict[str, Any]()
    for n, (term, value) in enumerate(zip(terms, key, strict=True)):
        behind |= Q(**same, **{f"_by{n}__{'lt' if term.descending else 'gt'}": value})
        same[f"_by{n}"] = value
    bound = Q(**{f"_by0__{'lte' if terms[0].descending else 'gte'}": key[0]})
    values = {f"_by{n}": term.expression for n, term in enumerate(terms)}
    rest: QuerySet[Any] = found.alias(**values).filter(bound & behind)
    return rest
