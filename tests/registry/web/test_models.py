"""Models found and changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from registry.catalog.overview import find_models
from registry.catalog.registration import update_model
from registry.errors import Invalid
from registry.models import Model, PromotionRule
from registry.promotion.aliases import move_alias
from tests.registry.build import begin, make_base, make_model, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    return Client(headers={"host": "localhost"})


def send(client: Client, method: str, path: str, body: object = None) -> Any:
    sent = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
    return getattr(client, method)(path, **sent)


def names(**asked: str) -> list[str]:
    return [model.name for model in find_models(**asked)]


def test_a_tag_is_matched_whole_and_a_search_in_part() -> None:
    base = make_base()
    make_model("one", base=base, tags=["json", "größe"])
    make_model("two", base=base, tags=["json-lines", "50%_off"])
    make_model("three", base=base)
    assert names(tag="json") == ["one"]
    assert names(tag="JSON") == ["one"]
    assert names(q="json", sort="name") == ["one", "two"]
    assert names(q="größe") == ["one"]
    assert names(tag="größe") == ["one"]
    assert names(q="0%_o") == ["two"]
    assert names(q="%") == ["two"]
    assert names(tag="_son") == []
    assert names(q='", "') == []


def test_archived_models_are_listed_when_asked_for() -> None:
    base = make_base()
    make_model("kept", base=base)
    make_model("old", base=base, archived_at=timezone.now())
    assert names() == ["kept"]
    assert names(status="archived") == ["old"]
    assert names(status="all", sort="name") == ["kept", "old"]


def test_models_are_sorted_by_versions_and_by_activity() -> None:
    base = make_base()
    busy, quiet, new = (make_model(name, base=base) for name in ("busy", "quiet", "new"))
    first = make_version(quiet)
    for iters in range(2):
        begin(busy, iters=iters)
    assert names(sort="versions") == ["busy", "quiet", "new"]
    assert names(sort="active")[0] == "busy"
    move_alias(quiet, "production", first)
    assert names(sort="active")[0] == "quiet"
    begin(new)
    assert names(sort="active") == ["new", "quiet", "busy"]


def test_a_list_takes_the_same_queries_for_any_filter(django_assert_num_queries: Any) -> None:
    base = make_base()
    for number in range(5):
        move_alias((v := make_version(make_model(f"m{number}", base=base))).model, "a", v)
    with django_assert_num_queries(2):
        found = list(find_models(q="m", base="tiny", sort="active"))
        assert [[alias.version.version for alias in m.aliases.all()] for m in found] == [
            ["0.1.0"]
        ] * 5


def test_what_a_model_is_called_and_built_on_does_not_change() -> None:
    model = make_model()
    with pytest.raises(Invalid, match="name of a model cannot be changed"):
        update_model(model, name="other")
    assert Model.objects.get().name == "helper"


@pytest.mark.parametrize("tags", [[f"t{n}" for n in range(21)], ["x" * 51], [" "]])
def test_bad_tags_are_refused(client: Client, tags: list[str]) -> None:
    model = make_model(tags=["kept"])
    answer = send(client, "patch", f"/api/models/{model.pk}", {"tags": tags})
    assert answer.status_code == 422
    assert "at most 20 tags" in answer.json()["error"]["message"]
    model.refresh_from_db()
    assert model.tags == ["kept"]


def test_a_model_is_changed_over_the_api(client: Client) -> None:
    model = make_model(description="old", tags=["a"])
    url = f"/api/models/{model.pk}"
    changed = send(client, "patch", url, {"tags": [" b", "c", "b"], "card_notes": "Mine."}).json()
    assert (changed["tags"], changed["card_notes"]) == (["b", "c"], "Mine.")
    assert (changed["description"], changed["name"]) == ("old", "helper")
    assert send(client, "patch", url, {"name": "x"}).status_code == 422
    assert send(client, "patch", url, {"task_type": "poetry"}).status_code == 422
    assert send(client, "patch", "/api/models/999", {}).status_code == 404


def test_the_card_is_markdown(client: Client) -> None:
    answer = client.get(f"/api/models/{make_model().pk}/card")
    assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert answer.content.decode().startswith("# helper\n")


def test_notes_are_written_on_a_version(client: Client) -> None:
    version = make_version()
    url = f"/api/models/{version.model_id}/versions/0.1.0"
    assert send(client, "patch", url, {"notes": " Short ones. "}).json()["notes"] == "Short ones."
    assert send(client, "patch", url, {"metrics": {}}).status_code == 422
    assert send(client, "patch", url.replace("0.1.0", "9.9.9"), {"notes": ""}).status_code == 404


def test_rules_are_kept_over_the_api(client: Client) -> None:
    model = make_model()
    url = f"/api/models/{model.pk}/rules"
    body = {"metric": "exact_match", "comparison": ">=", "value": None}
    made = send(client, "post", url, body)
    assert (made.status_code, made.json()["alias"]) == (201, "production")
    one = f"{url}/{made.json()['id']}"
    assert send(client, "post", url, body).status_code == 409
    assert send(client, "put", one, {**body, "value": 0.9}).json()["value"] == 0.9
    assert client.get(one).json()["comparison"] == ">="
    assert client.get(url).json()["count"] == 1
    assert send(client, "post", url, {**body, "comparison": "=="}).status_code == 422
    other = one.replace(f"/{model.pk}/", f"/{make_model('other').pk}/")
    assert client.delete(other).status_code == 404
    assert client.delete(one).status_code == 204
    assert not PromotionRule.objects.exists()


def test_a_refused_move_is_a_409_and_can_be_forced_undone_and_deleted(client: Client) -> None:
    model = make_model()
    make_version(model), make_version(model)
    url = f"/api/models/{model.pk}/aliases/production"
    assert send(client, "post", url, {"version": "0.1.0"}).status_code == 200
    rule = {"metric": "exact_match", "comparison": ">=", "value": 1}
    send(client, "post", f"/api/models/{model.pk}/rules", rule)
    refused = send(client, "post", url, {"version": "0.1.1"})
    assert refused.status_code == 409
    assert "exact_match of 0.1.1 is unknown" in refused.json()["error"]["message"]
    forced = send(client, "post", url, {"version": "0.1.1", "force": True}).json()
    assert (forced["forced"], forced["gate"][0]["passed"]) == (True, False)
    back = send(client, "post", f"{url}/rollback", {"to": "0.1.0"}).json()
    assert (back["from_version"], back["to_version"]) == ("0.1.1", "0.1.0")
    assert client.delete(url).json()["to_version"] is None
    assert client.delete(url).status_code == 404
    moves = client.get(f"/api/models/{model.pk}/moves?alias=production").json()
    assert [move["to_version"] for move in moves["items"]] == [None, "0.1.0", "0.1.1", "0.1.0"]
