"""Beyond loopback, sign-ins that fail are counted, and too many are refused before any hashing."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

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
