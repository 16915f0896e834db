"""Headers and addresses as the real services have them."""

import re

import httpx
import openai
import pytest

from tests.inference.openai_asking import ASK
from tests.inference.processes import Hub

pytestmark = pytest.mark.any_database


@pytest.mark.parametrize("stream", [False, True])
def test_both_clients_read_the_id_that_the_log_has(hub: Hub, stream: bool) -> None:
    import anthropic

    raw = hub.openai.chat.completions.with_raw_response.create(
        model="calendar", messages=ASK, stream=stream
    )
    answer = raw.parse()
    if stream:
        list(answer)
    sent = raw.headers["x-request-id"]
    assert sent == raw.headers["request-id"] == raw.headers["x-correlation-id"]
    assert hub.requests()[0]["correlation_id"] == sent
    with anthropic.Anthropic(base_url=hub.url, api_key="any") as client:
        message = client.messages.create(model="calendar", max_tokens=4, messages=ASK)
    assert message._request_id
    assert hub.requests()[0]["correlation_id"] == message._request_id


def test_errors_have_it_too(hub: Hub) -> None:
    import anthropic

    with pytest.raises(openai.NotFoundError) as caught:
        hub.openai.chat.completions.create(model="nobody", messages=ASK)
    assert caught.value.request_id
    with (
        anthropic.Anthropic(base_url=hub.url, api_key="any") as client,
        pytest.raises(anthropic.NotFoundError) as missed,
    ):
        client.messages.create(model="nobody", max_tokens=4, messages=ASK)
    assert missed.value.request_id == missed.value.body["request_id"]  # type: ignore[index]


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/models/calendar/"])
def test_a_slash_at_the_end_changes_nothing(hub: Hub, path: str) -> None:
    assert httpx.get(hub.url + path).json() == httpx.get(hub.url + path.rstrip("/")).json()


def test_a_slash_after_the_address_of_a_post(hub: Hub) -> None:
    body = {"model": "calendar", "messages": ASK, "max_tokens": 3}
    for path in ("/v1/chat/completions/", "/v1/messages/"):
        assert httpx.post(hub.url + path, json=body).status_code == 200


def test_the_context_length_is_listed_in_both_forms(hub: Hub) -> None:
    import anthropic

    for found in (hub.openai.models.retrieve("calendar"), next(iter(hub.openai.models.list()))):
        assert found.max_model_len == 2048  # type: ignore[attr-defined]
        assert found.owned_by
    with anthropic.Anthropic(base_url=hub.url, api_key="any") as client:
        for model in (client.models.retrieve("calendar"), next(iter(client.models.list()))):
            assert model.max_input_tokens == 2048


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/v1/chat/completions", {}),
        ("/v1/messages", {"max_tokens": 5}),
        ("/v1/messages", {"max_tokens": 5, "stream": True}),
        ("/api/inference", {}),
        ("/api/inference/stream", {}),
    ],
)
def test_every_face_names_both_lengths_of_a_prompt_that_is_too_long(
    hub: Hub, path: str, limit: dict[str, object]
) -> None:
    asked = [{"role": "user", "content": "word " * 3000}]
    answer = httpx.post(hub.url + path, json={"model": "calendar", "messages": asked, **limit})
    assert answer.status_code == 400
    assert re.search(r"3\d{3} tokens.*2048", answer.json()["error"]["message"])
