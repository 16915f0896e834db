"""Beyond loopback, sign-ins that fail are counted, and too many are refused before any hashing. At the
hub's own machine the first account is made in the browser."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from inference.models import ApiToken
from registry.models import AuditEntry

pytestmark = pytest.mark.django_db


def sign_in(client: Client, password: str, name: str = "ada") -> int:
    return client.post("/admin/login/", {"username": name, "password": password}).status_code


@pytest.fixture
def beyond_loopback(settings: object) -> None:
    settings.IS_LOOPBACK = False  # type: ignore[attr-defined]
    settings.ALLOWED_HOSTS = ["testserver"]  # type: ignore[attr-defined]
    settings.AXES_ENABLED = True  # type: ignore[attr-defined]


def test_guessing_is_throttled(
    client: Client, beyond_loopback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    User.objects.create_superuser("ada", password="right")
    assert [sign_in(client, "wrong") for _ in range(10)][:9] == [200] * 9
    hashed: list[str] = []
    monkeypatch.setattr(User, "check_password", lambda *_: hashed.append("x"))
    answer = client.post("/admin/login/", {"username": "ada", "password": "right"})
    assert (answer.status_code, answer["Retry-After"], hashed) == (429, "900", [])
    assert sign_in(client, "wrong", "somebody else") == 429  # from the same address


def test_a_right_password_enters(client: Client, beyond_loopback: None) -> None:
    User.objects.create_superuser("ada", password="right")
    assert sign_in(client, "wrong") == 200
    assert sign_in(client, "right") == 302


HERE = {"host": "127.0.0.1:8000"}
FORM = {"username": "ada", "password1": "lovelace-1815", "password2": "lovelace-1815"}


def test_the_first_account_is_made_in_the_browser(client: Client) -> None:
    answer = client.get("/admin/", headers=HERE, follow=True)
    assert answer.redirect_chain[-1][0] == "/first-account/"
    assert "At least 8 characters" in answer.content.decode()
    short = FORM | {"password1": "abc", "password2": "abc"}
    answer = client.post("/first-account/", short, headers=HERE)
    assert answer.status_code == 422
    assert "This password is too short." in answer.content.decode()
    assert not User.objects.exists()
    answer = client.post("/first-account/", FORM, headers=HERE, follow=True)
    assert answer.redirect_chain == [("/admin/login/", 302)]
    assert "The account ada was created." in answer.content.decode()
    assert AuditEntry.objects.get().action == "account.created"
    login = {"username": "ada", "password": FORM["password1"], "next": "/admin/"}
    answer = client.post("/admin/login/", login, headers=HERE, follow=True)
    assert answer.status_code == 200
    assert answer.context["user"].is_superuser


def test_there_is_only_one_first_account(client: Client) -> None:
    User.objects.create_user("somebody")
    assert client.get("/first-account/", headers=HERE).status_code == 404
    assert client.post("/first-account/", FORM, headers=HERE).status_code == 404
    assert client.get("/admin/login/", headers=HERE).status_code == 200
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "hub.example"},
        HERE | {"X-Forwarded-For": "203.0.113.7"},
        HERE | {"Forwarded": "for=203.0.113.7"},
    ],
)
def test_nobody_else_makes_the_first_account(
    client: Client, settings: Settings, headers: dict[str, str]
) -> None:
    settings.ALLOWED_HOSTS = ["127.0.0.1", "hub.example"]
    assert client.get("/admin/login/", headers=headers).status_code == 200
    assert client.get("/first-account/", headers=headers).status_code == 404
    assert client.post("/first-account/", FORM, headers=headers).status_code == 404
    assert not User.objects.exists()


def test_a_hub_that_others_reach_has_no_such_form(client: Client, beyond_loopback: None) -> None:
    assert client.post("/first-account/", FORM).status_code == 302  # to the sign-in
    key = {"Authorization": f"Bearer {ApiToken.issue('k', ApiToken.Scope.ADMIN)[1]}"}
    assert client.get("/first-account/", headers=key).status_code == 404
    assert not User.objects.exists()
    assert client.get("/admin/login/").status_code == 200


def test_the_form_needs_its_own_page() -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post("/first-account/", FORM, headers=HERE).status_code == 403
