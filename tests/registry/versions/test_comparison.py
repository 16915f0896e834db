"""Versions side by side: through the code, the page, the API and the command."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from registry.errors import Invalid, NotFound
from registry.models import ModelVersion
from registry.promotion.aliases import move_alias
from registry.versions.comparison import compare, find_versions
from registry.versions.lifecycle import record_evaluation
from tests.registry.build import make_model, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    return Client(headers={"host": "localhost"})


@pytest.fixture
def pair() -> tuple[ModelVersion, ModelVersion]:
    """Versions of two models, the second better."""
    first = make_version(make_model("one"), lora={"rank": 4})
    second = make_version(make_model("two"), lora={"rank": 8})
    record_evaluation(first, {"exact_match": 0.5})
    record_evaluation(second, {"exact_match": 0.75})
    return first, second


def test_versions_of_different_models_are_compared(pair: tuple[ModelVersion, ModelVersion]) -> None:
    found = compare(find_versions(["one@0.1.0", "two@0.1.0"]))
    metrics = {row.name: row for row in found.metrics}
    assert (metrics["exact_match"].best, metrics["exact_match"].differences) == (1, (None, 0.25))
    assert metrics["val_loss"].best is None
    params = {row.name: row for row in found.params}
    assert params["lora.rank"].values == (4, 8)
    assert params["iters"].same
    facts = {row.name: row for row in found.facts}
    assert facts["base model"].values == ("one-base", "two-base")
    assert facts["data set"].same


def test_an_alias_names_a_version_too(pair: tuple[ModelVersion, ModelVersion]) -> None:
    move_alias(pair[1].model, "production", pair[1])
    assert find_versions(["one@0.1.0", "two@production"]) == list(pair)


def test_a_value_one_version_lacks_is_unknown(pair: tuple[ModelVersion, ModelVersion]) -> None:
    record_evaluation(pair[0], {"f1": 0.5})
    row = next(row for row in compare(pair).metrics if row.name == "f1")
    assert (row.values, row.best, row.differences) == ((0.5, None), None, (None, None))


@pytest.mark.parametrize("names", [[], ["one@0.1.0"], ["one@0.1.0"] * 2, ["one", "two@0.1.0"]])
def test_fewer_than_two_versions_are_refused(
    pair: tuple[ModelVersion, ModelVersion], names: list[str]
) -> None:
    with pytest.raises(Invalid):
        find_versions(names)


def test_a_missing_version_is_named(pair: tuple[ModelVersion, ModelVersion]) -> None:
    with pytest.raises(NotFound, match=r"two@9\.9\.9"):
        find_versions(["one@0.1.0", "two@9.9.9"])


def test_page_marks_the_best_and_folds_what_is_equal(
    client: Client, pair: tuple[ModelVersion, ModelVersion]
) -> None:
    body = client.get("/compare/?v=one@0.1.0&v=two@0.1.0").content.decode()
    assert re.search(r'<td class="n best">\s*75 %', body)
    assert "+25 points" in body
    differing, _, equal = body.partition("In common")
    assert "LoRA rank" in differing.partition("Differences</h2>")[2]
    assert '<th scope="row">Steps</th>' in equal
    assert "has no training job here" in body


def test_page_without_versions_offers_them(
    client: Client, pair: tuple[ModelVersion, ModelVersion]
) -> None:
    response = client.get("/compare/")
    assert response.status_code == 200
    body = response.content.decode()
    assert "<option>two@0.1.0</option>" in body
    assert body.count('<select id="v') == 2
    assert "NAME@VERSION" not in body
    chosen = client.get("/compare/?v=one@0.1.0&v=two@0.1.0").content.decode()
    assert "<option selected>two@0.1.0</option>" in chosen
    assert chosen.count('<select id="v') == 3


def test_page_says_what_is_wrong(client: Client, pair: tuple[ModelVersion, ModelVersion]) -> None:
    response = client.get("/compare/?v=one@0.1.0&v=two@9.9.9")
    assert response.status_code == 404
    assert "There is no version &#x27;two@9.9.9&#x27;." in response.content.decode()


def test_api_answers_the_same(client: Client, pair: tuple[ModelVersion, ModelVersion]) -> None:
    found = client.get("/api/compare?version=one@0.1.0&version=two@0.1.0").json()
    assert [version["name"] for version in found["versions"]] == ["one@0.1.0", "two@0.1.0"]
    metrics = {row["name"]: row for row in found["metrics"]}
    assert metrics["exact_match"]["best"] == 1
    assert client.get("/api/compare?version=one@0.1.0").status_code == 422


def test_api_gives_the_loss_curves(client: Client, pair: tuple[ModelVersion, ModelVersion]) -> None:
    second = pair[1]
    job = second.model.jobs.create(
        dataset=second.dataset, config={}, status="completed", result_version=second
    )
    job.metrics.create(iteration=1, train_loss=2.5, val_loss=2.75)
    job.metrics.create(iteration=2, train_loss=1.5)
    found = client.get("/api/compare?version=one@0.1.0&version=two@0.1.0").json()["versions"]
    assert [version["job"] for version in found] == [None, job.pk]
    assert found[0]["loss_curve"] is None
    assert found[1]["loss_curve"] == {
        "iteration": [1, 2],
        "train_loss": [2.5, 1.5],
        "val_loss": [2.75, None],
    }


def test_command_prints_what_differs(pair: tuple[ModelVersion, ModelVersion]) -> None:
    out = StringIO()
    call_command("compare", "one@0.1.0", "two@0.1.0", stdout=out)
    assert "0.75 (best)" in out.getvalue()
    assert "lora.rank" in out.getvalue()
    assert "iters" not in out.getvalue()
    with pytest.raises(CommandError, match="at least two"):
        call_command("compare", "one@0.1.0")
