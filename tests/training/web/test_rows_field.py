"""A model and a data set are chosen among thousands: the newest are offered, a search finds the others."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from registry.models import Dataset, Model
from tests.training.build import make_dataset, make_model
from training.web.fields import OFFERED

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
NEW = "/training/new/"


@pytest.fixture
def oldest() -> Model:
    """The first of 140 models."""
    first = make_model("amber-first")
    names = [f"model-{n:03}" for n in range(138)]
    Model.objects.bulk_create([Model(name=n, base_model=first.base_model) for n in names])
    Model.objects.create(name="amber-last", base_model=first.base_model)
    return first


def options(html: str, name: str = "model") -> tuple[list[str], str]:
    """What a select offers, and what of it a browser would send."""
    found = re.search(rf'<select name="{name}".*?</select>', html, re.DOTALL)
    assert found is not None
    every = re.findall(r"<option value=\"(\d+)\"( selected)?>\s*([^<]*?)\s*</option>", found[0])
    chosen = [value for value, selected, _ in every if selected] or [every[0][0]]
    return [label for _, _, label in every], chosen[0]


def test_few_rows_are_all_offered_and_the_newest_is_chosen(client: Client) -> None:
    make_model("zebra")
    newest, dataset = make_model("aster"), make_dataset()
    page = client.get(NEW).content.decode()
    assert options(page) == (["aster", "zebra"], str(newest.pk))
    assert options(page, "dataset") == (["notes"], str(dataset.pk))
    assert "data-find" not in page


def test_a_search_finds_rows_that_are_not_offered(client: Client, oldest: Model) -> None:
    make_dataset()
    page = client.get(NEW).content.decode()
    labels, chosen = options(page)
    assert len(labels) == OFFERED
    assert oldest.name not in labels
    assert Model.objects.get(pk=chosen).name == "amber-last"
    assert "Search 140 models" in page
    assert f"The newest {OFFERED} of 140" in page
    linked = client.get(NEW, {"model": oldest.pk}).content.decode()
    assert options(linked)[1] == str(oldest.pk)

    def find(words: str) -> str:
        answer = client.get(f"{NEW}model/", {"find": "model", "find_model": words, "model": chosen})
        assert answer["HX-Trigger-After-Swap"] == "change"
        return answer.content.decode()

    assert options(find("amber")) == (["amber-first", "amber-last"], chosen)
    assert options(find("FIRST")) == (["amber-first"], str(oldest.pk))
    nothing = find("nothing-like-it")
    assert options(nothing) == (["amber-last"], chosen)
    assert "No model has “nothing-like-it” in its name" in nothing
    assert client.get(f"{NEW}priority/").status_code == 404


def test_it_is_searched_without_scripts_and_nothing_is_lost(client: Client, oldest: Model) -> None:
    dataset = make_dataset()
    newest = Model.objects.latest("pk")
    sent = {"model": newest.pk, "dataset": dataset.pk, "iters": "37", "find_model": "first"}
    page = client.post(NEW, {**sent, "find": "model"})
    assert page.status_code == 200
    assert options(page.content.decode()) == (["amber-first"], str(oldest.pk))
    assert page.context["form"]["iters"].value() == "37"
    # Sent with words that were not searched for: what was chosen stays chosen.
    wrong = client.post(NEW, {**sent, "iters": "0"})
    assert wrong.status_code == 422
    assert options(wrong.content.decode())[1] == str(newest.pk)
    assert client.post(NEW, sent).status_code == 302
    assert newest.jobs.get().config["iters"] == 37
    assert Dataset.objects.count() == 1
