"""Conversations and presets that are kept: made, found, continued, renamed, deleted."""

from typing import Any

import pytest
from django.test import Client

from hub.web import access
from inference.models import ApiToken, Conversation, Preset

pytestmark = pytest.mark.django_db
ADDRESS = "/api/playground/conversations"
PRESETS = "/api/playground/presets"


def exchange(user: str = "When is lunch?", answer: str = "At noon.") -> dict[str, Any]:
    return {
        "user": user,
        "answer": answer,
        "answered_by": "calendar@0.1.0",
        "thoughts": "A noon.",
        "finish_reason": "stop",
        "seed": 7,
        "figures": {"first_token_ms": 12, "tokens_per_second": 31.5, "completion_tokens": 3},
    }


def content(*models: str, turns: int = 1, **fields: Any) -> dict[str, Any]:
    names = models or ("calendar",)
    columns = [{"model": name, "exchanges": [exchange()] * turns} for name in names]
    return {
        "system": "Be exact.",
        "sampling": {"temperature": 0.5, "stop": ["\n"]},
        "columns": columns,
        **fields,
    }


def send(client: Client, method: str, path: str, body: Any = None) -> Any:
    return getattr(client, method)(path, body, content_type="application/json")


def keep(client: Client, *models: str, **fields: Any) -> dict[str, Any]:
    answer = send(client, "post", ADDRESS, content(*models, **fields))
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


def test_a_conversation_comes_back_as_it_was_kept(client: Client) -> None:
    kept = keep(client, "calendar@0.1.0", "base:tiny")
    found = client.get(f"{ADDRESS}/{kept['id']}").json()
    sent = content("calendar@0.1.0", "base:tiny")
    assert found["system"] == "Be exact."
    assert found["sampling"] == sent["sampling"]  # and nothing that was not said
    assert [column["model"] for column in found["columns"]] == ["calendar@0.1.0", "base:tiny"]
    one = found["columns"][0]["exchanges"][0]
    assert one | exchange() | {"figures": None} == one | {"figures": None}
    assert one["figures"]["tokens_per_second"] == 31.5


def test_its_tools_and_its_branches_are_kept_at_any_depth(client: Client) -> None:
    inner = exchange("Really?") | {"others": [[exchange("Truly?")]], "at": 1}
    calls = [{"name": "find", "arguments": "{}"}]
    first = exchange() | {"others": [[exchange("When?"), inner]], "tool_calls": calls}
    tools = [{"type": "function", "function": {"name": "find"}}]
    columns = [{"model": "calendar", "exchanges": [first]}]
    kept = keep(client, columns=columns, tools=tools)
    assert kept["tools"] == tools
    one = kept["columns"][0]["exchanges"][0]
    assert one["tool_calls"] == calls
    [[head, tail]] = one["others"]
    assert (head["user"], tail["at"], tail["others"][0][0]["user"]) == ("When?", 1, "Truly?")


def test_its_first_words_are_its_title_unless_it_has_one(client: Client) -> None:
    assert keep(client)["title"] == "When is lunch?"
    assert keep(client, title=" Lunch ")["title"] == "Lunch"
    long = content()
    long["columns"][0]["exchanges"] = [exchange(user="word\n" * 100)]
    title = send(client, "post", ADDRESS, long).json()["title"]
    assert len(title) <= 60
    assert title.startswith("word word")
    assert title.endswith("…")


def test_it_goes_on_from_the_revision_that_was_read(client: Client) -> None:
    kept = keep(client)
    path = f"{ADDRESS}/{kept['id']}"
    longer = send(client, "put", path, content(turns=2, revision=kept["revision"]))
    assert longer.status_code == 200
    assert (longer.json()["turns"], longer.json()["revision"]) == (2, kept["revision"] + 1)
    stale = send(client, "put", path, content(turns=9, revision=kept["revision"]))
    assert stale.status_code == 409
    assert "another window" in stale.json()["error"]["message"]
    assert Conversation.objects.get().turns == 2


def test_the_newest_is_listed_first_and_titles_are_searched(client: Client) -> None:
    first = keep(client, title="Dates")
    keep(client, "a", "b", title="Names")
    send(client, "put", f"{ADDRESS}/{first['id']}", content(revision=1))
    items = client.get(ADDRESS).json()["items"]
    assert [(item["title"], item["models"]) for item in items] == [
        ("Dates", ["calendar"]),
        ("Names", ["a", "b"]),
    ]
    assert [item["title"] for item in client.get(f"{ADDRESS}?q=AME").json()["items"]] == ["Names"]


def test_it_is_renamed_and_deleted(client: Client) -> None:
    path = f"{ADDRESS}/{keep(client)['id']}"
    assert send(client, "patch", path, {"title": "Meals"}).json()["title"] == "Meals"
    assert send(client, "patch", path, {"title": "  "}).status_code == 422
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"columns": []},
        {"columns": [{"model": "calendar", "exchanges": []}]},
        {"columns": [{"model": name, "exchanges": [exchange()]} for name in "abcde"]},
        {"columns": [{"model": "calendar", "exchanges": [exchange() | {"html": "<b>"}]}]},
        {"sampling": {"temperature": 9}},
        {"owner": "me"},
    ],
)
def test_what_is_no_conversation_is_refused(client: Client, wrong: dict[str, Any]) -> None:
    answer = send(client, "post", ADDRESS, content() | wrong)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"]
    assert not Conversation.objects.exists()


def test_a_preset_is_kept_changed_and_deleted(client: Client) -> None:
    tool = {"type": "function", "function": {"name": "find"}}
    sampling = {"temperature": 0.5, "json_schema": {"type": "object"}}
    sent = {"name": " Terse ", "system": "Be brief.", "sampling": sampling, "tools": [tool]}
    made = send(client, "post", PRESETS, sent)
    assert made.status_code == 201
    assert made.json()["sampling"] == sampling  # and nothing that was not said
    path = f"{PRESETS}/{made.json()['id']}"
    send(client, "put", path, sent | {"system": "Three words."})
    [item] = client.get(PRESETS).json()["items"]
    assert (item["name"], item["system"], item["tools"]) == ("Terse", "Three words.", [tool])
    assert send(client, "put", path, sent | {"sampling": {"top_p": 7}}).status_code == 422
    assert client.delete(path).status_code == 204
    assert not Preset.objects.exists()


def test_two_presets_of_a_model_have_two_names(client: Client) -> None:
    send(client, "post", PRESETS, {"name": "Terse", "system": "Be brief."})
    again = send(client, "post", PRESETS, {"name": "Terse", "system": "Other."})
    assert again.status_code == 409
    assert "another name" in again.json()["error"]["message"]
    assert Preset.objects.get().system == "Be brief."
    for model in ("calendar", "mail"):
        assert send(client, "post", PRESETS, {"name": "Terse", "model": model}).status_code == 201
    items = client.get(f"{PRESETS}?model=mail").json()["items"]
    assert [item["model"] for item in items] == ["", "mail"]


def test_a_key_that_may_only_generate_reads_no_conversations() -> None:
    for scope, allowed in (("inference", False), ("manage", True)):
        assert access.allows(ApiToken(scope=scope), ADDRESS) is allowed
