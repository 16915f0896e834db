"""On a model's page: editing, the card, rules, moves against them, rolling back, notes."""

from __future__ import annotations

import pytest
from django.test import Client

from registry.models import Alias, AliasMove, Model, ModelVersion, PromotionRule
from registry.promotion.rules import add_rule
from tests.pages.seed import Seeded
from tests.pages.test_pages import text


def test_a_model_is_edited_and_keeps_its_name(client: Client, seeded: Seeded) -> None:
    url = f"/models/{seeded.model.pk}/edit/"
    assert 'value="json, demo"' in client.get(url).content.decode()
    fields = {"task_type": "chat", "description": "New.", "tags": "x", "card_notes": "*Mine*"}
    client.post(url, {**fields, "name": "other"})
    changed = Model.objects.get(pk=seeded.model.pk)
    assert (changed.name, changed.task_type, changed.tags) == ("calendar", "chat", ["x"])
    assert "<em>Mine</em>" in client.get(f"/models/{changed.pk}/card/").content.decode()


def test_too_many_tags_are_explained_beside_the_form(client: Client, seeded: Seeded) -> None:
    tags = ",".join(f"t{number}" for number in range(21))
    fields = {"task_type": "chat", "tags": tags}
    response = client.post(f"/models/{seeded.model.pk}/edit/", fields)
    assert response.status_code == 422
    assert "at most 20 tags" in text(response)


def test_the_card_is_downloaded_as_a_readme(client: Client, seeded: Seeded) -> None:
    response = client.get(f"/models/{seeded.model.pk}/README.md")
    assert response.headers["Content-Disposition"] == 'attachment; filename="README.md"'
    assert "In production: 0.2.0." in response.content.decode()


def test_the_version_in_production_is_not_offered_again(client: Client, seeded: Seeded) -> None:
    body = client.get(seeded.model.get_absolute_url()).content.decode()
    assert "?promote=0.1.0#promote" in body
    assert "?promote=0.2.0#promote" not in body
    assert "Promote" not in text(client.get(seeded.versions[1].get_absolute_url()))
    assert "Promote" in text(client.get(seeded.versions[0].get_absolute_url()))


def test_the_form_says_beforehand_what_the_rules_say(client: Client, seeded: Seeded) -> None:
    add_rule(seeded.model, "exact_match", ">=")
    url = f"{seeded.model.get_absolute_url()}?name=production&version=0.1.0"
    part = client.get(url, headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith('<details class="card" id="promote" open>')
    assert "exact_match of 0.1.0 is 0.42; it must be at least 0.2.0&#x27;s 0.86." in part
    assert "Override promotion rules" in part
    staging = client.get(url.replace("production", "staging")).content.decode()
    assert "Override promotion rules" not in staging


def test_a_refused_move_is_explained_and_may_be_forced(client: Client, seeded: Seeded) -> None:
    add_rule(seeded.model, "exact_match", ">=")
    url = f"/models/{seeded.model.pk}/alias/"
    fields = {"name": "production", "version": "0.1.0"}
    refused = client.post(url, fields)
    assert refused.status_code == 409
    assert "calendar@production was not moved" in text(refused)
    assert Alias.objects.get().version == seeded.versions[1]
    forced = client.post(url, {**fields, "force": "on"}, follow=True)
    assert "rule overridden" in text(forced)
    assert Alias.objects.get().version == seeded.versions[0]


def test_one_click_rolls_back(client: Client, seeded: Seeded) -> None:
    body = client.get(seeded.model.get_absolute_url()).content.decode()
    assert "Roll production back to 0.1.0" in body
    url = f"/models/{seeded.model.pk}/alias/production/rollback/"
    assert "is version 0.1.0 again" in text(client.post(url, {"to": "0.1.0"}, follow=True))
    assert "in the meantime" in text(client.post(url, {"to": "0.1.0"}, follow=True))
    assert Alias.objects.get().version == seeded.versions[0]


def test_an_alias_is_deleted_and_its_history_stays(client: Client, seeded: Seeded) -> None:
    url = f"/models/{seeded.model.pk}/alias/production/delete/"
    assert "Roll production back to 0.2.0" in text(client.post(url, follow=True))
    assert not Alias.objects.exists()
    assert AliasMove.objects.count() == 3
    assert "has no alias" in text(client.post(url, follow=True))


def test_rules_are_added_and_deleted(client: Client, seeded: Seeded) -> None:
    url = f"/models/{seeded.model.pk}/rules/"
    fields = {"alias": "production", "metric": "val_loss", "comparison": "<=", "value": "0.5"}
    assert "val_loss at most 0.5" in text(client.post(url, fields, follow=True))
    assert client.post(url, fields).status_code == 409
    assert client.post(url, {**fields, "metric": ""}).status_code == 422
    rule = PromotionRule.objects.get()
    client.post(f"{url}{rule.pk}/delete/")
    assert not PromotionRule.objects.exists()


def test_notes_are_kept_on_a_version(client: Client, seeded: Seeded) -> None:
    version = seeded.versions[2]
    response = client.post(f"{version.get_absolute_url()}notes/", {"notes": "<b>bad</b>"})
    assert response.headers["Location"] == version.get_absolute_url()
    assert ModelVersion.objects.get(pk=version.pk).notes == "<b>bad</b>"
    body = client.get(version.get_absolute_url()).content.decode()
    assert "&lt;b&gt;bad&lt;/b&gt;</textarea>" in body


@pytest.mark.parametrize(
    ("query", "found"),
    [("tag=demo", True), ("tag=dem", False), ("status=archived", False), ("status=all", True)],
)
def test_models_are_filtered(client: Client, seeded: Seeded, query: str, found: bool) -> None:
    rows = client.get(f"/models/?{query}", headers={"HX-Request": "true"}).content.decode()
    assert (seeded.model.get_absolute_url() in rows) is found


def test_the_page_of_a_refused_form_still_leads_to_the_model(
    client: Client, seeded: Seeded
) -> None:
    """It stands at the form's address, where links that begin with `?` would lead nowhere."""
    url = f"/models/{seeded.model.pk}/rules/"
    body = client.post(url, {"alias": "NO", "metric": "", "comparison": ">="}).content.decode()
    assert f'href="{seeded.model.get_absolute_url()}"' in body
    assert 'class="error"' in body
    assert 'href="?' not in body
    assert '<form method="get">' not in body
