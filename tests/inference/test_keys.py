"""Keys over API and pages: shown once, limited, counted, revoked, and what each scope may do."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from backends.base import Sampling
from hub.web import access
from inference.gateway.record import Record
from inference.gateway.request import Caller, GenerationRequest
from inference.models import ApiToken, InferenceRequest
from registry.promotion.resolve import resolve
from tests.inference.builders import make_base

pytestmark = pytest.mark.django_db


def make(client: Client, **fields: Any) -> Any:
    body = {"name": "laptop", **fields}
    return client.post("/api/keys", body, content_type="application/json")


def test_a_key_is_told_once_and_works(client: Client) -> None:
    made = make(client, scope="manage", max_running=2)
    assert made.status_code == 201
    key = ApiToken.authenticate(made.json()["text"])
    assert key is not None
    assert (key.name, key.scope, key.max_running, key.max_waiting) == ("laptop", "manage", 2, None)
    assert made.json()["text"] not in client.get("/api/keys").content.decode()


def test_a_taken_name_is_a_conflict(client: Client) -> None:
    assert make(client).status_code == 201
    again = make(client)
    assert again.status_code == 409
    assert "another name" in again.json()["error"]["message"]


@pytest.mark.parametrize("field", [{"scope": "god"}, {"max_running": 0}, {"name": " "}])
def test_nonsense_makes_no_key(client: Client, field: dict[str, Any]) -> None:
    assert make(client, **field).status_code == 422
    assert not ApiToken.objects.exists()


def test_limits_change_and_a_revoked_key_is_refused(client: Client) -> None:
    made = make(client).json()
    address = f"/api/keys/{made['id']}"
    changed = client.patch(address, {"max_waiting": 3}, content_type="application/json").json()
    assert (changed["max_running"], changed["max_waiting"]) == (None, 3)
    assert client.delete(address).json()["revoked_at"]
    assert ApiToken.authenticate(made["text"]) is None


def test_the_page_shows_a_new_key_in_one_answer_alone(client: Client) -> None:
    page = client.post(reverse("keys"), {"name": "laptop", "scope": "inference"})
    text = page.context["text"]
    assert text in page.content.decode()
    assert "no-store" in page["Cache-Control"]
    assert text not in client.get(reverse("keys")).content.decode()
    assert ApiToken.authenticate(text) is not None


def test_the_page_says_what_is_wrong(client: Client) -> None:
    ApiToken.issue("laptop")
    page = client.post(reverse("keys"), {"name": "laptop", "scope": "inference"})
    assert page.status_code == 409
    assert "another name" in page.content.decode()


def test_the_page_limits_and_revokes(client: Client) -> None:
    key, text = ApiToken.issue("laptop")
    client.post(reverse("key_limits", args=[key.pk]), {"max_running": "4", "max_waiting": ""})
    key.refresh_from_db()
    assert (key.max_running, key.max_waiting) == (4, None)
    client.post(reverse("key_revoke", args=[key.pk]))
    assert ApiToken.authenticate(text) is None


@pytest.mark.parametrize(
    ("scope", "path", "method", "allowed"),
    [
        ("inference", "/v1/chat/completions", "POST", True),
        ("inference", "/api/inference/models", "GET", True),
        ("inference", "/api/inference/models", "POST", False),
        ("inference", "/api/inference/models/base:x", "DELETE", False),
        ("inference", "/api/models", "GET", False),
        ("inference", "/api/keys", "GET", False),
        ("manage", "/api/models", "POST", True),
        ("manage", "/api/inference/models", "POST", True),
        ("manage", "/api/keys", "GET", False),
        ("manage", "/system/keys/", "POST", False),
        ("admin", "/api/keys", "POST", True),
    ],
)
@pytest.mark.any_database
def test_a_scope_covers_what_it_says(scope: str, path: str, method: str, allowed: bool) -> None:
    assert access.allows(ApiToken(scope=scope), path, method) is allowed


def test_a_key_too_weak_is_told_which_one_is_needed(client: Client) -> None:
    _, text = ApiToken.issue("laptop", "manage")
    refused = client.get("/api/keys", headers={"Authorization": f"Bearer {text}"})
    assert refused.status_code == 403
    assert "scope admin" in refused.json()["error"]["message"]


def test_a_request_carries_its_key_and_its_limits_and_is_counted() -> None:
    make_base()
    key, _ = ApiToken.issue("laptop", max_running=2, max_waiting=5)
    served = resolve("base:tiny")
    asked = GenerationRequest("base:tiny", ["Once"], Sampling())
    record = Record(served, asked, Caller(InferenceRequest.Api.NATIVE, key))
    request = record.for_engine()
    assert (request.key, request.key_running, request.key_waiting) == (str(key.pk), 2, 5)
    record.prompt_tokens, record.completion_tokens = 7, 3
    InferenceRequest.objects.add_all([record.row()])
    key.refresh_from_db()
    assert (key.requests, key.prompt_tokens, key.completion_tokens) == (1, 7, 3)
    assert InferenceRequest.objects.get().token == key
