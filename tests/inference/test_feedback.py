"""What people say of answers: kept with their texts, and made into examples for training."""

from typing import Any

import pytest
from django.test import Client

from backends.base.inputs import CUSTOM
from inference import feedback
from inference.models import Feedback, InferenceRequest
from registry.datasets import uploads
from registry.datasets.preview import preview
from registry.errors import Invalid, NotFound
from tests.pages.seed import make_request

pytestmark = pytest.mark.django_db
HELLO = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]


def logged(answer: str, **fields: Any) -> InferenceRequest:
    return make_request(1, **{"prompt": HELLO, "completion": answer, **fields})


def put(client: Client, request_id: str, **body: Any) -> Any:
    path = f"/api/requests/{request_id}/feedback"
    return client.put(path, body, content_type="application/json")


def test_a_thumb_and_an_edit_are_kept_with_the_request_and_outlive_it(client: Client) -> None:
    row = logged("Hi")
    assert put(client, row.request_id, rating="bad").json()["prompt"] == HELLO
    answer = put(client, row.request_id, rating="bad", ideal="Good day!")
    assert (answer.status_code, answer.json()["ideal"]) == (200, "Good day!")
    whole = client.get(f"/api/requests/{row.request_id}").json()
    assert (whole["completion"], whole["feedback"]["rating"]) == ("Hi", "bad")
    row.delete()
    [kept] = client.get("/api/feedback?rating=bad").json()["items"]
    assert (kept["request_id"], kept["answer"]) == (row.request_id, "Hi")
    # The next word counts, and none at all is none.
    assert put(client, row.request_id, rating="good").json()["ideal"] == ""
    assert put(client, row.request_id).status_code == 204
    assert not Feedback.objects.exists()
    assert client.delete(f"/api/requests/{row.request_id}/feedback").status_code == 404


def test_texts_that_the_log_does_not_keep_are_sent_along(client: Client) -> None:
    row = make_request(2)
    put(client, row.request_id, rating="good", prompt=HELLO, answer="Hi")
    assert feedback.examples("answers") == [
        {"messages": [*HELLO, {"role": "assistant", "content": "Hi"}]}
    ]
    missing = put(client, "0123456789abcdef", rating="good")
    assert missing.status_code == 404
    assert "send its prompt and answer" in missing.json()["error"]["message"]
    with pytest.raises(NotFound):
        feedback.rate("fedcba", "good", "")


def rated(answer: str, rating: str = "", ideal: str = "", **fields: Any) -> None:
    feedback.rate(logged(answer, **fields).request_id, rating, ideal)


def test_better_answers_stand_beside_worse_ones_to_the_same_prompt() -> None:
    rated("Hi", "good")
    rated("Go away", "bad")
    rated("Hey", ideal="Hello to you")
    rated("Alone", "bad", prompt=[{"role": "user", "content": "Else"}])
    pairs = [
        (row["chosen"][0]["content"], row["rejected"][0]["content"])
        for row in feedback.examples("preferences")
    ]
    assert pairs == [
        ("Hi", "Go away"),
        ("Hello to you", "Go away"),
        ("Hi", "Hey"),
        ("Hello to you", "Hey"),
    ]
    assert feedback.examples("preferences")[0]["prompt"] == HELLO
    labels = [(r["completion"][0]["content"], r["label"]) for r in feedback.examples("labelled")]
    assert labels == [
        ("Hi", True),
        ("Go away", False),
        ("Hello to you", True),
        ("Alone", False),
    ]
    assert feedback.examples("answers", "no-such-model") == []


CALL = {"name": "find", "arguments": '{"q": "x"}'}
TOOL = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("kind", "form"),
    [("answers", "tools"), ("preferences", "preference"), ("labelled", "labelled")],
)
def test_examples_are_read_as_what_they_are(tmp_path: Any, kind: Any, form: str) -> None:
    """Calls of tools and thoughts among them."""
    for number in range(12):
        prompt = [{"role": "user", "content": f"Find {number}"}]
        common: dict[str, Any] = {"prompt": prompt, "tools": [{**TOOL, CUSTOM: {}}]}
        rated("", "good", tool_calls=[CALL], thoughts="It wants x.", **common)
        rated("I will not", "bad", **common)
    assert feedback.examples(kind)[0]["tools"] == [TOOL]
    saved = feedback.stage(kind)
    seen = preview(saved.source, names=saved.names)
    uploads.discard(saved)
    assert (seen.format, seen.problems) == (form, [])
    assert saved.suggested_name == f"feedback-{kind}"


def test_nothing_rated_makes_nothing(client: Client) -> None:
    with pytest.raises(Invalid, match="No answer is rated"):
        feedback.stage("labelled")
    sent = {"kind": "preferences"}
    answer = client.post("/api/feedback/examples", sent, content_type="application/json")
    assert answer.status_code == 422
    page = client.post("/requests/feedback/", {"kind": "answers"})
    assert page.status_code == 422
