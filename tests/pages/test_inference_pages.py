"""The playground's choices and the request log."""

from __future__ import annotations

from django.test import Client

from inference.models import InferenceRequest
from tests.pages.seed import Seeded, make_request
from tests.pages.test_pages import text


def test_the_playground_offers_everything_that_serves(client: Client, seeded: Seeded) -> None:
    groups = client.get("/playground/").context["groups"]
    labels = [served.label for names in groups.values() for served in names]
    assert labels[:4] == ["calendar", "calendar@production", "calendar@0.2.0", "calendar@0.1.0"]
    assert "base:SmolLM2-135M-Instruct" in labels
    assert "calendar@0.2.1" not in labels  # it failed


def test_a_link_chooses_the_model_and_its_rival(client: Client, seeded: Seeded) -> None:
    url = "/playground/?model=calendar@0.2.0&compare=calendar@0.1.0"
    body = client.get(url).content.decode()
    assert '<option value="calendar@0.2.0" selected>' in body
    assert '<option value="calendar@0.1.0" selected>' in body
    assert 'id="compare" checked' in body


def test_the_playground_suggests_held_out_examples(client: Client, seeded: Seeded) -> None:
    response = client.get("/playground/")
    assert len(response.context["examples"]) == 3
    assert response.context["system"] == "Turn the request into calendar JSON."
    assert "(80)" in response.context["examples"][0]["prompt"]  # the test split begins there


def test_an_empty_hub_says_how_to_get_something_to_talk_to(client: Client, db: None) -> None:
    assert "There is nothing to talk to yet" in text(client.get("/playground/"))


def test_requests_are_filtered(client: Client, seeded: Seeded) -> None:
    def found(query: str) -> list[InferenceRequest]:
        return list(client.get(f"/requests/?{query}").context["rows"])

    assert [row.status for row in found("status=failed")] == ["failed"]
    assert {row.api for row in found("api=openai")} == {"openai"}
    assert [row.requested_model for row in found("q=base:")] == ["base:SmolLM2-135M-Instruct"]
    assert {row.version for row in found(f"version={seeded.versions[0].pk}")} == {
        seeded.versions[0]
    }
    assert "No request matches" in text(client.get("/requests/?q=zzz"))


def test_older_requests_are_one_page_away_and_none_is_skipped(
    client: Client, seeded: Seeded
) -> None:
    seen: list[int] = []
    url = "/requests/"
    while True:
        response = client.get(url)
        seen += [row.pk for row in response.context["rows"]]
        if response.context["older"] is None:
            break
        url = f"/requests/?before={response.context['older']}"
    everything = InferenceRequest.objects.order_by("-pk").values_list("pk", flat=True)
    assert seen == list(everything)


def test_texts_are_shown_only_where_they_were_logged(client: Client, seeded: Seeded) -> None:
    InferenceRequest.objects.all().delete()
    make_request(1, version=seeded.versions[0])
    assert "<details>" not in client.get("/requests/").content.decode()
    make_request(2, prompt=[{"role": "user", "content": "A secret"}], completion="Kept")
    assert "A secret" in text(client.get("/requests/"))


def test_markup_in_a_prompt_is_shown_and_never_run(client: Client, seeded: Seeded) -> None:
    turn = {"role": "user", "content": "<script>alert(1)</script>"}
    make_request(3, prompt=[turn], completion="<b>bold</b>")
    body = client.get("/requests/").content.decode()
    assert "<script>alert" not in body
    assert "&lt;script&gt;alert(1)" in body
