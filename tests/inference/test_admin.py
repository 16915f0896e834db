"""The request log, the tokens and what the playground keeps, in the admin."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from inference.models import ApiToken, Conversation, InferenceRequest, Preset

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def make_request() -> InferenceRequest:
    return InferenceRequest.objects.create(
        request_id="r-1", api="native", status="failed", requested_model="calendar", error="No."
    )


@pytest.mark.parametrize("table", ["apitoken", "inferencerequest", "conversation"])
def test_lists_render_and_nothing_is_added_by_hand(admin: Client, table: str) -> None:
    ApiToken.issue("laptop")
    make_request()
    Conversation.objects.create(title="Dates", columns=[{"model": "calendar", "exchanges": []}])
    assert admin.get(reverse(f"admin:inference_{table}_changelist")).status_code == 200
    assert admin.get(reverse(f"admin:inference_{table}_add")).status_code == 403


def test_a_request_is_read_only(admin: Client) -> None:
    url = reverse("admin:inference_inferencerequest_change", args=[make_request().pk])
    page = admin.get(url)
    assert page.status_code == 200
    assert b'name="status"' not in page.content
    assert admin.post(url, {"status": "completed"}).status_code == 403


def test_tokens_are_revoked_by_an_action(admin: Client) -> None:
    row, text = ApiToken.issue("laptop")
    url = reverse("admin:inference_apitoken_changelist")
    admin.post(url, {"action": "revoke", "_selected_action": [row.pk]})
    assert ApiToken.authenticate(text) is None


def test_the_log_is_found_by_part_of_a_name_or_an_error_or_a_whole_id(admin: Client) -> None:
    make_request()
    url = reverse("admin:inference_inferencerequest_changelist")

    def count(q: str) -> int:
        return int(admin.get(url, {"q": q}).context["cl"].result_count)

    assert [count(q) for q in ("ALEND", "no.", "r-1")] == [1, 1, 1]
    assert [count(q) for q in ("%", "r-", "calendar x", "ç")] == [0, 0, 0, 0]


def test_a_kept_conversation_is_read_and_a_system_prompt_written(admin: Client) -> None:
    said = [{"model": "calendar", "exchanges": [{"user": "When?", "answer": "Noon"}]}]
    kept = Conversation.objects.create(title="Dates", columns=said)
    page = admin.get(reverse("admin:inference_conversation_change", args=[kept.pk]))
    assert b"Noon" in page.content
    assert b'name="columns"' not in page.content
    sent = {"name": "Terse", "system": "Be brief.", "sampling": "{}", "tools": "[]"}
    admin.post(reverse("admin:inference_preset_add"), sent)
    assert Preset.objects.get().system == "Be brief."
