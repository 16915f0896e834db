"""NUL characters: refused where people and programs send them, replaced where they come in files."""

from __future__ import annotations

import pytest
from django.test import Client

from hub.nul import REPLACEMENT, without_nul
from inference.models import Conversation, Preset
from tests.registry.build import make_model


@pytest.mark.django_db
def test_text_and_json_are_kept_without() -> None:
    prompt = Preset.objects.create(name="a\0b", system="x\0")
    prompt.refresh_from_db()
    assert (prompt.name, prompt.system) == (f"a{REPLACEMENT}b", f"x{REPLACEMENT}")
    Preset.objects.filter(pk=prompt.pk).update(system="\0\0")
    Preset.objects.bulk_create([Preset(name=f"{n}\0", system="t") for n in range(3)])
    assert not Preset.objects.filter(name__contains="\0x").exists()
    kept = Conversation.objects.create(title="t", sampling={"a\0": ["\0", {"b": "\\u0000"}]})
    kept.refresh_from_db()
    assert kept.sampling == {f"a{REPLACEMENT}": [REPLACEMENT, {"b": "\\u0000"}]}


def test_what_has_none_is_the_same_object() -> None:
    text = "a long text"
    assert without_nul(text) is text
    assert without_nul(None) is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/models", {"name": "a\0b", "base_model": "tiny"}),
        ("/api/keys", {"name": "a\0b"}),
        ("/api/playground/presets", {"name": "a", "system": "b\0"}),
    ],
)
def test_the_json_api_refuses_them(client: Client, path: str, body: dict[str, str]) -> None:
    answer = client.post(path, body, content_type="application/json")
    assert answer.status_code == 422
    assert "NUL" in answer.json()["error"]["message"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/models/new/", {"name": "a\0b"}),
        ("/models/1/1.0.0/notes/", {"notes": "a\0"}),
        ("/system/keys/", {"name": "a\0b", "scope": "inference"}),
        ("/models/1/alias/", {"name": "production", "reason": "\0"}),
    ],
)
def test_forms_refuse_them(client: Client, path: str, fields: dict[str, str]) -> None:
    make_model()
    assert client.post(path, fields).status_code in (400, 404, 422)
