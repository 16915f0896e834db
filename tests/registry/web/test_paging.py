"""Pages of rows, ids first."""

from __future__ import annotations

import pytest
from django.test import Client

from registry.models import Model
from registry.web import paging
from registry.web.paging import RowPages, rows_between
from tests.registry.build import make_base, make_model

pytestmark = pytest.mark.django_db


@pytest.fixture
def names() -> list[str]:
    base = make_base()
    found = [f"model-{number}" for number in range(7)]
    for name in found:
        make_model(name, base=base)
    return found


def test_pages_keep_the_order_and_end_with_the_rest(names: list[str]) -> None:
    pages = RowPages(Model.objects.order_by("name"), 3)
    shown = [[row.name for row in pages.page(number)] for number in pages.page_range]
    assert shown == [names[:3], names[3:6], names[6:]]
    assert (pages.get_page("9").start_index(), pages.get_page("9").end_index()) == (7, 7)


def test_rows_beyond_the_end_are_none(names: list[str]) -> None:
    assert rows_between(Model.objects.order_by("name"), 7, 10) == []


@pytest.mark.parametrize("ahead", [0, 1, 5, 100])
@pytest.mark.parametrize("offset", [0, 2, 6, 7, 30])
def test_the_api_counts_all_rows_wherever_the_page_is(
    names: list[str], monkeypatch: pytest.MonkeyPatch, ahead: int, offset: int
) -> None:
    monkeypatch.setattr(paging, "AHEAD", ahead)
    answer = Client().get(f"/api/models?sort=name&limit=2&offset={offset}").json()
    assert answer["count"] == 7
    assert [row["name"] for row in answer["items"]] == names[offset : offset + 2]
