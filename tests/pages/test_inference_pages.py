"""The playground's page, kept conversations and the request log."""

from __future__ import annotations

import re
from typing import Any

from django.test import Client

from inference.models import Conversation, Feedback, InferenceRequest, Replay
from inference.playground.conversations import Content, keep_conversation
from registry.datasets.snapshots import register_dataset
from registry.promotion.aliases import move_alias
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
    assert re.search(r"base:SmolLM2-135M-Instruct.*?\d,\d{3} tokens", body, re.DOTALL)
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
    paired = make_version(seeded.model, "0.9.0", own)
    bare = client.get("/playground/?model=calendar")  # what its production version asks
    assert bare.context["system"] == "Turn the request into calendar JSON."
    move_alias(seeded.model, "staging", paired)
    staging = client.get("/playground/?model=calendar@staging")
    assert staging.context["examples"][0]["prompt"].startswith("fetch ")
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


def failed_request(seeded: Seeded) -> InferenceRequest:
    return make_request(
        5,
        status="failed",
        error="The request missed its deadline of 2 s; allow more time.",
        error_code="deadline_exceeded",
        base_model=seeded.base,
        queue_ms=None,
        first_token_ms=None,
        finish_reason="",
    )


def test_a_requests_page_says_first_how_it_ended(client: Client, seeded: Seeded) -> None:
    failed = failed_request(seeded)
    response = client.get(failed.get_absolute_url())
    assert "Failed: its deadline passed." in text(response)
    assert "allow more time" in text(response)
    assert "deadline_exceeded" in text(response)
    assert "Feedback" not in text(response)  # there is no answer
    assert "text of this request was not kept" in text(response)
    assert client.get(f"/api/requests/{failed.request_id}").json()["phases"] == []
    answered = make_request(
        6, version=seeded.versions[1], completion_tokens=40, total_ms=1500.0, finish_reason="stop"
    )
    assert "calendar@0.2.0 answered with 40 tokens in 1.5 s." in text(
        client.get(answered.get_absolute_url())
    )
    assert client.get("/requests/no-such-id/").status_code == 404
    assert f'href="{failed.get_absolute_url()}"' in client.get("/requests/").content.decode()


def test_a_requests_time_is_drawn_phase_by_phase(client: Client, seeded: Seeded) -> None:
    row = make_request(
        7, queue_ms=400.0, load_ms=300.0, first_token_ms=500.0, total_ms=1000.0, streamed=True
    )
    phases = client.get(f"/api/requests/{row.request_id}").json()["phases"]
    assert [(one["name"], one["begin_ms"], one["ms"]) for one in phases] == [
        ("queue", 0, 100),
        ("load", 100, 300),
        ("prefill", 400, 100),
        ("decode", 500, 500),
    ]
    body = client.get(row.get_absolute_url()).content.decode()
    assert 'class="load" x="10.00%" width="30.00%"' in body


def asked_in_the_log(seeded: Seeded, **fields: Any) -> InferenceRequest:
    turns = [
        {"role": "system", "content": "Be exact."},
        {"role": "user", "content": "When?"},
        {"role": "assistant", "content": "At noon."},
        {"role": "user", "content": "As JSON"},
    ]
    grammar = {"kind": "json_schema", "source": '{"type": "object"}'}
    params = {"temperature": 0.5, "top_p": 1.0, "seed": 3, "stop": [], "grammar": grammar}
    kept = {"prompt": turns, "completion": '{"at":"noon"}', "params": params}
    return make_request(8, version=seeded.versions[1], **kept | fields)


def test_a_request_is_opened_in_the_playground(client: Client, seeded: Seeded) -> None:
    row = asked_in_the_log(seeded)
    page = client.get(row.get_absolute_url())
    assert "{\n  &quot;at&quot;: &quot;noon&quot;\n}" in page.content.decode()
    state = client.get(f"/playground/?request={row.request_id}").context["state"]
    assert state["system"] == "Be exact."
    assert state["sampling"] == {"temperature": 0.5, "json_schema": {"type": "object"}}
    open_end = {
        "max_tokens": None,
        "logit_bias": [[5, -1.0]],
        "grammar": {"kind": "regex", "source": "a+"},
    }
    endless = asked_in_the_log(seeded, params=open_end)
    sampling = client.get(f"/playground/?request={endless.request_id}").context["state"]["sampling"]
    assert sampling == {"max_tokens": None, "logit_bias": {"5": -1.0}, "regex": "a+"}
    [column] = state["columns"]
    assert column["model"] == "calendar@0.2.0"
    before, last = column["exchanges"]
    assert (before["user"], before["answer"]) == ("When?", "At noon.")
    assert (last["answer"], last["request_id"]) == ('{"at":"noon"}', row.request_id)
    # What the playground cannot show stays where it is, and says why.
    other = asked_in_the_log(seeded, prompt="Once upon a time")
    answer = client.get(f"/playground/?request={other.request_id}", follow=True)
    assert "cannot be opened in the playground" in text(answer)


def test_an_answer_is_rated_and_edited_on_its_page(client: Client, seeded: Seeded) -> None:
    row = asked_in_the_log(seeded)
    path = f"{row.get_absolute_url()}feedback/"
    client.post(path, {"rate": "bad"})
    page = client.post(path, {"ideal": '{"at": "12:00"}'}, follow=True)
    assert "Remove it" in text(page)
    said = Feedback.objects.get()
    assert (said.rating, said.ideal) == ("bad", '{"at": "12:00"}')
    listed = client.get("/requests/feedback/")
    assert "12:00" in text(listed)
    assert "of the newest 20,000 at most" in text(listed)
    assert row.get_absolute_url() in listed.content.decode()
    assert "No rated answer matches" in text(client.get("/requests/feedback/?rating=good"))
    made = client.post("/requests/feedback/", {"kind": "preferences"}, follow=True)
    assert "feedback-preferences" in made.content.decode()
    client.post(path, {"rate": "bad"})  # again: taken back
    client.post(path, {"ideal": "x", "unedit": "yes"})
    assert not Feedback.objects.exists()


def test_a_rated_answer_is_shown_though_the_log_keeps_no_text(
    client: Client, seeded: Seeded
) -> None:
    row = asked_in_the_log(seeded, prompt=None, completion=None)
    asked = [{"role": "user", "content": "When does it start?"}]
    body = {"rating": "bad", "ideal": "At ten.", "prompt": asked, "answer": "At two."}
    saved = f"/api/requests/{row.request_id}/feedback"
    assert client.put(saved, body, content_type="application/json").status_code == 200
    page = client.get(row.get_absolute_url())
    for said in ("When does it start?", "At two.", "At ten.", "Open in playground"):
        assert said in text(page)
    assert "was not kept" not in text(page)
    state = client.get(f"/playground/?request={row.request_id}").context["state"]
    assert state["columns"][0]["exchanges"][-1]["answer"] == "At two."
    client.post(f"{row.get_absolute_url()}feedback/", {"ideal": "At two."})  # as it was
    assert Feedback.objects.get().ideal == ""


def test_one_request_is_replayed(client: Client, seeded: Seeded, monkeypatch: Any) -> None:
    launched: list[Replay] = []
    monkeypatch.setattr("registry.background.work.launch", launched.append)
    row = asked_in_the_log(seeded)
    assert "calendar@0.1.0" in text(client.get(row.get_absolute_url()))
    client.post(f"{row.get_absolute_url()}replay/", {"target": "calendar@0.1.0"})
    [replay] = launched
    assert (str(replay.target), replay.total, replay.of_one) == ("calendar@0.1.0", 1, True)
    assert replay.answers.get().before == '{"at":"noon"}'
    refused = client.post(
        f"{failed_request(seeded).get_absolute_url()}replay/", {"target": "calendar"}, follow=True
    )
    assert "nothing to compare" in text(refused)
