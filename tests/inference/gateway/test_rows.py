"""A row of the request log, as the database has it."""

from __future__ import annotations

from typing import Any

import pytest

from inference.models import ApiToken, InferenceRequest
from tests.inference.builders import make_base, make_version

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("kept", [True, False])
def test_an_answers_row_is_as_if_it_were_saved(kept: bool) -> None:
    texts = {
        "prompt": [{"role": "user", "content": "a\0b \u2028 '\"%s"}],
        "completion": "1\0",
        "thoughts": "",
        "tools": [{"type": "function"}],
        "tool_calls": [],
    }
    token, _ = ApiToken.issue("used")
    figures: dict[str, Any] = {
        "api": "native",
        "status": "completed",
        "requested_model": "a",
        "version": make_version(make_base()),
        "token": token,
        "params": {"stop": ("x",), "top_p": 0.25, "grammar": None},
        "total_ms": 1.5,
        "prompt_tokens": 3,
        "streamed": True,
        **(texts if kept else {}),
    }
    added, saved = (InferenceRequest(request_id=name, **figures) for name in ("added", "saved"))
    saved.save()
    InferenceRequest.objects.add_all([added], saved.created_at)
    one, other = (
        InferenceRequest.objects.filter(request_id=row.request_id).values().get()
        for row in (added, saved)
    )
    assert added.added
    assert one == {**other, "id": one["id"], "request_id": "added"}
    token.refresh_from_db()
    assert (token.requests, token.prompt_tokens) == (1, 3)
