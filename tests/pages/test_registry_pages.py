"""Models, versions and data sets: found, registered, promoted, compared, explained."""

from __future__ import annotations

import datetime
import json
import re
from html import unescape
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from inference.models import InferenceRequest
from registry.models import Alias, Dataset, Model
from registry.promotion.aliases import move_alias
from registry.promotion.rules import add_rule
from tests.pages.seed import Seeded, example, make_answers, make_base, make_model, make_version
from tests.pages.test_pages import text
from tests.registry.build import add_on_page

pytestmark = pytest.mark.any_database


def upload(*names: str, lines: int = 30) -> list[SimpleUploadedFile]:
    body = "\n".join(json.dumps(example(number)) for number in range(lines))
    return [SimpleUploadedFile(name, body.encode()) for name in names]


# ------------------------------------------------------------------------- models


@pytest.mark.parametrize(
    ("query", "found", "lost"),
    [
        ("q=calend", "calendar", "ticket-labels"),
        ("q=plain+english", "calendar", "ticket-labels"),
        ("q=demo", "calendar", "ticket-labels"),
        ("task=classification", "ticket-labels", "release-notes"),
        ("base=SmolLM2-135M-Instruct", "calendar", "ticket-labels"),
    ],
)
@pytest.mark.both_databases
def test_models_are_found(
    client: Client, seeded: Seeded, query: str, found: str, lost: str
) -> None:
    rows = client.get(f"/models/?{query}", headers={"HX-Request": "true"}).content.decode()
    assert found in rows
    assert lost not in rows


def test_a_request_that_came_since_the_page_began_is_todays(client: Client, seeded: Seeded) -> None:
    soon = timezone.now() + datetime.timedelta(minutes=1)
    InferenceRequest.objects.update(created_at=soon)
    assert "61 requests in the last" in client.get("/models/").content.decode()


def test_a_search_without_hits_leads_back(client: Client, seeded: Seeded) -> None:
    assert "No model matches" in text(client.get("/models/?q=nothing-like-it"))


@pytest.mark.both_databases
def test_models_come_in_pages_that_keep_the_filter(client: Client, db: None) -> None:
    base = make_base()
    for number in range(30):
        make_model(base, f"model-{number:02}")
    body = client.get("/models/?sort=name&q=model").content.decode()
    assert "model-24" in body
    assert "model-25" not in body
    last = Model.objects.get(name="model-24")
    assert f"sort=name&amp;q=model&amp;before={last.pk}" in body
    for older in (f"before={last.pk}", "page=2"):  # links of earlier hubs have numbers
        second = client.get(f"/models/?sort=name&q=model&{older}")
        assert [row.name for row in second.context["rows"]] == [f"model-{n}" for n in range(25, 30)]


@pytest.mark.both_databases
def test_a_model_is_registered_through_the_form(client: Client, db: None) -> None:
    base = make_base()
    fields = {"name": "notes", "base": base.pk, "task_type": "chat", "tags": "a, b ,a,"}
    response = client.post("/models/new/", fields)
    created = Model.objects.get(name="notes")
    assert response.headers["Location"] == created.get_absolute_url()
    assert created.tags == ["a", "b"]


@pytest.mark.parametrize("name", ["", "two words", "../up", "calendar", "CALENDAR"])
def test_a_bad_or_taken_name_is_explained_beside_the_form(
    client: Client, seeded: Seeded, name: str
) -> None:
    fields = {"name": name, "base": seeded.base.pk, "task_type": "chat"}
    response = client.post("/models/new/", fields)
    assert response.status_code in (409, 422)
    assert (
        'class="error"' in response.content.decode() or 'role="alert"' in response.content.decode()
    )
    assert Model.objects.count() == 4


def test_without_a_base_model_the_form_says_how_to_get_one(client: Client, db: None) -> None:
    assert "No base models yet" in text(client.get("/models/new/"))


# ---------------------------------------------------------------- model and version


@pytest.mark.both_databases
def test_a_model_page_says_what_answers_and_how_good_it_is(client: Client, seeded: Seeded) -> None:
    shown = text(client.get(seeded.model.get_absolute_url()))
    for part in (
        "86 % of answers exact; its base was not measured.",
        "0.2.0 is in production and answers requests for calendar",
        "production → 0.2.0",
        "Twice the exact match",
    ):
        assert part in shown
    body = client.get(seeded.model.get_absolute_url()).content.decode()
    assert '<details class="card" id="promote">' in body  # folded until somebody wants it
    candidate = make_version(seeded.model, "0.3.0", seeded.dataset, metrics={"exact_match": 0.98})
    shown = text(client.get(seeded.model.get_absolute_url()))
    assert "0.3.0 is newer. 0.2.0 in production has 86 %, but on other examples" in shown
    candidate.evaluation = seeded.versions[1].evaluation
    candidate.save()
    shown = text(client.get(seeded.model.get_absolute_url()))
    assert "0.3.0 is newer. 12 points better than 0.2.0 in production." in shown


@pytest.mark.both_databases
def test_only_the_newest_moves_are_on_the_models_page(client: Client, seeded: Seeded) -> None:
    for number in range(13):
        move_alias(seeded.model, "staging", seeded.versions[number % 2], reason=f"Turn {number}.")
        move_alias(seeded.model, "canary", seeded.versions[number % 2], reason=f"Also {number}.")
    url = seeded.model.get_absolute_url()
    first = text(client.get(url))
    assert first.count("Turn ") + first.count("Also ") == 5
    assert "Delete staging" not in first
    every = text(client.get(f"{url}promotion/"))
    assert "Turn 1." in every
    assert "Delete staging" in every
    assert "Twice the exact match" in text(client.get(f"{url}promotion/?page=2"))


@pytest.mark.both_databases
def test_promoting_moves_the_alias_and_keeps_the_reason(client: Client, seeded: Seeded) -> None:
    fields = {"name": "production", "version": "0.1.0", "reason": "Roll back"}
    response = client.post(f"/models/{seeded.model.pk}/alias/", fields, follow=True)
    assert Alias.objects.get(name="production").version == seeded.versions[0]
    assert "Roll back" in text(response)
    assert "calendar@production is now version 0.1.0" in text(response)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "Not Valid", "version": "0.1.0"},
        {"name": "production", "version": "0.2.1"},  # failed, so it has no files
        {"name": "production", "version": "9.9.9"},
    ],
)
def test_an_alias_that_cannot_move_is_explained_beside_the_form(
    client: Client, seeded: Seeded, fields: dict[str, str]
) -> None:
    response = client.post(f"/models/{seeded.model.pk}/alias/", fields)
    assert response.status_code == 422
    assert 'class="error"' in response.content.decode()
    assert Alias.objects.get(name="production").version == seeded.versions[1]


def test_the_promote_link_fills_the_form(client: Client, seeded: Seeded) -> None:
    body = client.get(f"{seeded.model.get_absolute_url()}?promote=0.1.0").content.decode()
    assert '<option value="0.1.0" selected>' in body


@pytest.mark.django_db
def test_without_a_version_the_comparison_says_where_they_come_from(client: Client) -> None:
    page = client.get("/compare/").content.decode()
    assert "No versions to compare yet" in page
    assert "<select" not in page


@pytest.mark.both_databases
def test_two_versions_are_compared(client: Client, seeded: Seeded) -> None:
    url = f"{seeded.model.get_absolute_url()}?compare=0.2.0&compare=0.1.0"
    response = client.get(url)
    assert [v.version for v in response.context["compared"]] == ["0.1.0", "0.2.0"]
    rows = {row.name: row for row in response.context["compared_metrics"]}
    assert rows["exact_match"].best == 1  # higher is better
    assert rows["val_loss"].best == 1  # lower is better
    assert rows["base_perplexity"].best is None
    differing = {row.name: row.values for row in response.context["compared_params"]}
    assert differing == {"iters": (100, 300), "lora.rank": (8, 16)}


@pytest.mark.both_databases
def test_a_version_page_begins_with_what_was_gained_and_shows_it(
    client: Client, seeded: Seeded
) -> None:
    version = seeded.versions[1]
    version.metrics |= {"base_exact_match": 0.02}
    version.save()
    body = client.get(version.get_absolute_url())
    shown = text(body)
    assert "86 % of answers exact; the base has 2.0 %. It is in production." in shown
    assert shown.count("Base wrong") == 3
    assert shown.count("0.2.0 right") == 2
    assert shown.count("0.2.0 wrong") == 1
    assert shown.count(" Expected ") == 1  # beside the wrong one alone
    for action in ("Try", "Use from code", "Compare"):
        assert f" {action} " in shown
    for figure in ("1.028", "0.0213"):
        assert figure not in shown  # they have a tab
    # The other version may be promoted, and is compared by choice.
    other = client.get(seeded.versions[0].get_absolute_url()).content.decode()
    assert "0.1.0/promote/" in other
    assert "v=calendar@0.2.0&amp;v=calendar%400.1.0" in other
    assert '<option value="calendar@0.2.0">' in other


def test_how_a_model_is_called_is_said_with_its_own_prompt(client: Client, seeded: Seeded) -> None:
    url = seeded.model.get_absolute_url()
    body = unescape(client.get(f"{url}use/").content.decode())
    assert 'model="calendar",' in body
    assert '{"role": "system", "content": "Turn the request into calendar JSON."}' in body
    assert '"required": ["title", "day", "start", "with"]' in body
    curl = unescape(client.get(f"{url}0.1.0/use/?in=curl").content.decode())
    assert "curl http://testserver/v1/chat/completions" in curl
    assert '"model": "calendar@0.1.0"' in curl
    failed = text(client.get(f"{url}0.2.1/use/"))
    assert "This version is failed, so it does not answer requests now." in failed
    empty = Model.objects.get(name="ticket-labels").get_absolute_url()
    assert "has no version that is ready; train one first" in text(client.get(f"{empty}use/"))


def test_without_scored_answers_those_of_training_are_shown(client: Client, seeded: Seeded) -> None:
    version = seeded.versions[1]
    version.evaluation = {}
    version.save()
    make_answers(seeded.done, (50, 100))
    shown = text(client.get(version.get_absolute_url()))
    assert "after step 100 of training; the base’s were not kept" in shown
    assert "Base wrong" not in shown


def test_the_parts_of_a_version_have_addresses_and_no_figure_stands_twice(
    client: Client, seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = seeded.versions[1]
    url = version.get_absolute_url()
    pages = {
        tab: client.get(f"{url}{tab}/").content.decode()
        for tab in ("scores", "training", "lineage", "files", "use")
    }
    wanted = {
        "scores": ("1.028", "14.42", "86 %", "Answers on the test split"),
        "training": (f"/training/{seeded.done.pk}/metrics.json", "LoRA rank", "Longest example"),
        "lineage": (
            version.git_commit,
            "with uncommitted changes",
            version.dataset_checksum,
            version.base_checksum,
            version.manifest_sha256,
            version.mlflow_run_id,
            "Apple M4 Pro",
            "mlx-lm",
            'id="reproduction"',
        ),
        "files": ("adapters.safetensors", "Archive"),
        "use": ("Turn the request into calendar JSON.",),
    }
    for tab, parts in wanted.items():
        for part in parts:
            assert part in pages[tab], tab
            assert sum(part in page for page in pages.values()) == 1 or len(part) < 9, part
        assert "60 requests" in " ".join(pages[tab].split())
        assert pages[tab].count('aria-current="page"') == 2  # in the navigation and in the tabs
    assert "lora.rank" not in pages["training"]
    monkeypatch.setattr("registry.models.versions._COUNTED", 50)  # more are not counted
    assert "50+ requests" in " ".join(client.get(url).content.decode().split())
    # A link of before, to a part of the one page that there was.
    assert 'data-parts="picture lineage hardware packages reproduction"' in pages["scores"]


def test_settings_have_the_words_of_the_job_on_every_page(client: Client, seeded: Seeded) -> None:
    def settings(url: str) -> set[str]:
        page = client.get(url).content.decode().partition('aria-labelledby="settings"')
        part = page[2] or page[0].partition('aria-labelledby="params"')[2]
        return set(re.findall(r"<div><dt>([^<]+)</dt>", part))

    job = settings(seeded.done.get_absolute_url())
    assert "Warm-up steps" in job
    assert settings(f"{seeded.versions[1].get_absolute_url()}training/") == job
    compared = client.get("/compare/?v=calendar@0.1.0&v=calendar@0.2.0").content.decode()
    assert '<th scope="row">LoRA rank</th>' in compared


def test_a_version_is_promoted_where_it_stands(client: Client, seeded: Seeded) -> None:
    add_rule(seeded.model, "exact_match", ">=")
    url = f"{seeded.versions[0].get_absolute_url()}promote/"
    whole = client.get(url).content.decode()
    assert "<html" in whole
    assert "exact_match of 0.1.0 is 0.42; it must be at least 0.2.0&#x27;s 0.86." in whole
    part = client.get(url, headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith('<section class="card" id="promote"')
    staging = client.get(f"{url}?name=staging", headers={"HX-Request": "true"}).content.decode()
    assert "Override promotion rules" in part
    assert "Override promotion rules" not in staging
    assert "move_alias calendar production 0.1.0" in whole
    refused = client.post(url, {"name": "production", "version": "0.2.0", "reason": "So be it"})
    assert refused.status_code == 409
    assert 'value="So be it"' in refused.content.decode()
    assert Alias.objects.get().version == seeded.versions[1]
    forced = client.post(url, {"name": "production", "force": "on"}, follow=True)
    assert forced.request["PATH_INFO"] == seeded.versions[0].get_absolute_url()
    assert "calendar@production is now version 0.1.0" in text(forced)
    failed = client.post(f"{seeded.versions[2].get_absolute_url()}promote/", {"name": "staging"})
    assert failed.status_code == 422


def test_a_followed_tab_is_a_whole_page(client: Client, seeded: Seeded) -> None:
    boosted = {"HX-Request": "true", "HX-Boosted": "true"}
    for url in (seeded.model.get_absolute_url(), f"{seeded.model.get_absolute_url()}runs/"):
        assert 'id="content"' in client.get(url, headers=boosted).content.decode()


def test_what_is_unknown_is_said(client: Client, seeded: Seeded) -> None:
    url = seeded.versions[2].get_absolute_url()
    body = client.get(f"{url}lineage/").content.decode()
    assert body.count('<span class="unknown">unknown</span>') >= 8
    assert "the job did not finish" in client.get(f"{url}files/").content.decode()
    assert "Its job failed, so there is nothing to try." in text(client.get(url))


def test_damaged_files_are_reported(client: Client, seeded: Seeded, storage: Path) -> None:
    (storage / seeded.versions[1].artifact_path / "manifest.json").write_text("{")
    response = client.get(f"{seeded.versions[1].get_absolute_url()}files/")
    assert response.status_code == 200
    assert 'role="alert"' in response.content.decode()


# ----------------------------------------------------------------------- data sets


@pytest.mark.both_databases
def test_a_single_file_is_split(client: Client, db: None) -> None:
    response = add_on_page(client, upload("anything.jsonl", lines=60), name="mine")
    assert Dataset.objects.get(name="mine").examples == 60
    assert "mine is registered" in text(response)


def test_three_files_are_the_splits(client: Client, db: None) -> None:
    add_on_page(client, upload("train.jsonl", "valid.jsonl", "test.jsonl"), name="mine")
    assert Dataset.objects.get(name="mine").splits == {"train": 30, "valid": 30, "test": 30}


@pytest.mark.parametrize(
    "files",
    [
        [SimpleUploadedFile("a.jsonl", b"{}"), SimpleUploadedFile("b.jsonl", b"{}")],
        [],
    ],
    ids=["unknown names", "none"],
)
def test_a_bad_upload_is_explained_and_leaves_nothing(
    client: Client, db: None, storage: Path, files: list[SimpleUploadedFile]
) -> None:
    response = client.post("/datasets/new/", {"files": files})
    assert response.status_code == 422
    body = response.content.decode()
    assert 'role="alert"' in body or 'class="error"' in body
    assert not Dataset.objects.exists()
    assert not list((storage / "uploads").iterdir())


def test_examples_are_shown_as_a_chat_by_split_and_page(client: Client, seeded: Seeded) -> None:
    first = client.get(f"{seeded.dataset.get_absolute_url()}?split=test")
    assert [e["number"] for e in first.context["examples"]] == list(range(1, 11))
    last = client.get(f"{seeded.dataset.get_absolute_url()}?split=test&page=3")
    assert [e["number"] for e in last.context["examples"]] == [21, 22, 23, 24]
    assert 'class="msg user"' in last.content.decode()


@pytest.mark.both_databases
def test_a_data_set_says_first_whether_it_is_fit(client: Client, seeded: Seeded) -> None:
    shown = text(client.get(seeded.dataset.get_absolute_url()))
    assert "Not checked for problems yet." in shown
    assert "The newest version trained on it is calendar@0.2.0 : 86 % of answers exact" in shown


def test_a_lost_snapshot_does_not_take_the_page_with_it(
    client: Client, seeded: Seeded, storage: Path
) -> None:
    (storage / seeded.dataset.path / "train.jsonl").unlink()
    response = client.get(seeded.dataset.get_absolute_url())
    assert response.status_code == 200
    assert 'role="alert"' in response.content.decode()


# ------------------------------------------------------------------------- starters


def test_the_bundled_base_model_is_one_button_away(client: Client, db: None) -> None:
    response = client.post("/models/starter/", follow=True)
    assert "SmolLM2-135M-Instruct is imported" in text(response)
    assert response.context["bases"] is True


def test_the_starter_examples_are_one_button_away(client: Client, db: None) -> None:
    response = client.post("/datasets/starter/", follow=True)
    assert response.context["dataset"].splits["train"] >= 400
