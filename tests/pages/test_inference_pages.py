"""The playground's page, kept conversations and the request log."""

from __future__ import annotations

import re
from typing import Any

from django.test import Client

from inference.models import Conversation, InferenceRequest
from inference.playground.conversations import Content, keep_conversation
from registry.datasets.snapshots import register_dataset
from registry.storage import paths
from tests.pages.seed import Seeded, make_request, make_version
from tests.pages.test_pages import text
from tests.registry.build import write_jsonl


def models_of(response: Any) -> list[str]:
    return [column["model"] for column in response.context["state"]["columns"]]


def test_the_playground_offers_everything_that_serves(client: Client, seeded: Seeded) -> None:
    body = client.get("/playground/models/").content.decode()
    labels = re.findall(r'data-name="([^"]+)"', body)
    assert labels[:4] == ["calendar", "calendar@production", "calendar@0.2.0", "calendar@0.1.0"]
    assert "base:SmolLM2-135M-Instruct" in labels
    assert re.search(r"base:SmolLM2-135M-Instruct.*?\d\u202f\d{3} tokens", body, re.DOTALL)
    assert "calendar@0.2.1" not in labels  # it failed


def test_a_link_chooses_the_models_at_most_four(client: Client, seeded: Seeded) -> None:
    url = "/playground/?model=calendar@0.2.0&compare=calendar@0.1.0"
    assert models_of(client.get(url)) == ["calendar@0.2.0", "calendar@0.1.0"]
    many = "/playground/?model=a" + "".join(f"&compare=b{n}" for n in range(9))
    assert models_of(client.get(many)) == ["a", "b0", "b1", "b2"]
    assert models_of(client.get("/playground/")) == ["calendar@0.2.0"]


def make_conversation(title: str = "Dates", answer: str = "Noon") -> Conversation:
    exchange = {"user": "When?", "answer": answer}
    column = {"model": "calendar@0.1.0", "exchanges": [exchange]}
    return keep_conversation(
        Content.model_validate({"system": "Be exact.", "columns": [column]}), title
    )


def test_a_kept_conversation_is_opened(client: Client, seeded: Seeded) -> None:
    kept = make_conversation()
    response = client.get(kept.get_absolute_url())
    state = response.context["state"]
    assert (state["id"], state["revision"], state["system"]) == (kept.pk, 1, "Be exact.")
    assert models_of(response) == ["calendar@0.1.0"]
    assert client.get("/playground/?conversation=99999").status_code == 404


def test_a_hostile_answer_stays_data_in_the_page(client: Client, seeded: Seeded) -> None:
    kept = make_conversation("<b>T</b>", "</script><script>alert(1)</script>")
    for path in (kept.get_absolute_url(), "/playground/conversations/"):
        body = client.get(path).content.decode()
        assert "<script>alert" not in body
        assert "<b>T" not in body


def test_conversations_are_found_renamed_and_deleted(client: Client, seeded: Seeded) -> None:
    kept, other = make_conversation("Dates"), make_conversation("Names")

    def titles(query: str = "") -> list[str]:
        page = client.get(f"/playground/conversations/{query}").context["page"]
        return [conversation.title for conversation in page]

    assert titles() == ["Names", "Dates"]
    assert titles("?q=dat") == ["Dates"]
    client.post(f"/playground/conversations/{kept.pk}/rename/", {"title": "Meals"})
    client.post(f"/playground/conversations/{other.pk}/rename/", {"title": ""})
    assert titles() == ["Names", "Meals"]
    client.post(f"/playground/conversations/{kept.pk}/delete/")
    assert titles() == ["Names"]
    rows = client.get("/playground/conversations/", headers={"HX-Request": "true"})
    assert "<html" not in rows.content.decode()


def test_the_playground_suggests_held_out_examples(client: Client, seeded: Seeded) -> None:
    response = client.get("/playground/")
    assert len(response.context["examples"]) == 3
    assert response.context["system"] == "Turn the request into calendar JSON."
    assert "(80)" in response.context["examples"][0]["prompt"]  # the test split begins there
    # A version is asked what its own data set asks, however new another one is.
    pairs = [{"prompt": f"fetch {n}", "chosen": "yes", "rejected": "no"} for n in range(30)]
    own = register_dataset("pairs", write_jsonl(paths.root() / "pairs.jsonl", pairs))
    make_version(seeded.model, "0.9.0", own)
    path = write_jsonl(paths.root() / "texts.jsonl", [{"text": f"t{n}"} for n in range(30)])
    texts = register_dataset("texts", path)
    make_version(seeded.model, "0.9.1", texts)
    tried = client.get("/playground/?model=calendar@0.9.0&try=yes").context["state"]
    assert tried["send"]
    assert tried["prompt"].startswith("fetch ")
    state = client.get("/playground/?model=calendar@0.9.1&try=yes").context["state"]
    assert not state["send"]  # plain texts ask nothing


def test_an_empty_hub_says_how_to_get_something_to_talk_to(client: Client, db: None) -> None:
    response = client.get("/playground/")
    assert "No models to chat with yet" in text(response)
    assert "js/playground.js" not in response.content.decode()  # it needs what is not there


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
    attributes = client.get("/requests/?status=failed").content.decode()
    assert 'prefill">' not in attributes, "a time that is not known is no attribute's text"


def test_a_request_links_to_its_trace_where_traces_are_shown(
    client: Client, seeded: Seeded, settings: Any
) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    InferenceRequest.objects.filter(status="failed").update(trace_id=trace_id)
    assert trace_id not in client.get("/requests/").content.decode()
    settings.TRACE_URL = "http://traces.example/{trace_id}"
    assert f'href="http://traces.example/{trace_id}"' in client.get("/requests/").content.decode()


def test_the_log_says_first_how_the_last_requests_ended(client: Client, seeded: Seeded) -> None:
    body = client.get("/requests/").content.decode()
    assert "Of the last 62: 60 answered, 1 failed, 1 left by the client." in body
    assert re.search(r"Half of them began within \d+ ms", body)
    assert "&lt;span" not in body
    assert 'title="<span' not in body
    failed = client.get("/requests/?status=failed", headers={"HX-Request": "true"})
    assert "Of the last 1: 1 failed." in text(failed)
    assert "Of the last" not in text(client.get("/requests/?q=nothing-like-it"))


def test_older_requests_are_one_page_away_and_none_is_skipped(
    client: Client, seeded: Seeded
) -> None:
    seen: list[int] = []
    url = "/requests/"
    while url:
        response = client.get(url)
        seen += [row.pk for row in response.context["rows"]]
        url = response.context["list"].older
    everything = InferenceRequest.objects.order_by("-pk").values_list("pk", flat=True)
    assert seen == list(everything)


def test_texts_are_shown_only_where_they_were_logged(client: Client, seeded: Seeded) -> None:
    InferenceRequest.objects.all().delete()
    make_request(1, version=seeded.versions[0])
    one = InferenceRequest.objects.get()
    assert "was not stored" in text(client.get(f"/requests/?open={one.pk}"))
    two = make_request(2, prompt=[{"role": "user", "content": "A secret"}], completion="Kept")
    assert "A secret" not in text(client.get("/requests/"))
    assert "A secret" in text(client.get(f"/requests/?open={two.pk}"))


def test_markup_in_a_prompt_is_shown_and_never_run(client: Client, seeded: Seeded) -> None:
    turn = {"role": "user", "content": "<script>alert(1)</script>"}
    made = make_request(3, prompt=[turn], completion="<b>bold</b>")
    body = client.get(f"/requests/?open={made.pk}").content.decode()
    assert "<script>alert" not in body
    assert "&lt;script&gt;alert(1)" in body
