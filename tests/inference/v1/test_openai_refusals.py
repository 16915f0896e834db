"""What is refused, and how it is told: the real `openai` client, real processes."""

import re
from typing import Any

import openai
import pytest

from tests.inference.openai_asking import ASK, CLOCK, TOOLS, chat
from tests.inference.processes import Hub

pytestmark = pytest.mark.any_database


def test_neutral_values_of_unsupported_parameters_pass(hub: Hub) -> None:
    answer = hub.openai.chat.completions.create(
        model="calendar", messages=ASK, n=1, presence_penalty=0, logprobs=False, user="ana"
    )
    assert answer.choices[0].message.content


@pytest.mark.parametrize(
    ("param", "value", "code"),
    [
        ("n", 17, "invalid_value"),
        ("functions", [{"name": "f"}], "unsupported_parameter"),
        ("modalities", ["audio"], "unsupported_parameter"),
        ("temperature", 3, "invalid_value"),
        ("max_tokens", 0, "invalid_value"),
    ],
)
def test_what_is_not_honoured_is_refused(hub: Hub, param: str, value: Any, code: str) -> None:
    asked: dict[str, Any] = {param: value}
    with pytest.raises(openai.BadRequestError) as caught:
        hub.openai.chat.completions.create(model="calendar", messages=ASK, **asked)
    assert caught.value.param == param
    assert caught.value.code == code


def test_an_image_is_refused(hub: Hub) -> None:
    image: Any = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    with pytest.raises(openai.BadRequestError) as caught:
        hub.openai.chat.completions.create(
            model="calendar", messages=[{"role": "user", "content": image}]
        )
    assert caught.value.param == "messages.0.content.0"
    assert "images are not supported by this model" in caught.value.message


def test_a_missing_parameter_is_named(hub: Hub) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        hub.openai.post("/chat/completions", body={"model": "calendar"}, cast_to=object)
    assert caught.value.param == "messages"
    assert caught.value.code == "missing_required_parameter"
    assert "messages is required" in caught.value.message


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"tool_choice": "required"}, "needs tools"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "not one of the tools",
        ),
        ({"tools": [CLOCK, CLOCK]}, "same name"),
        ({"top_logprobs": 2}, "logprobs"),
        ({"messages": [*ASK, {"role": "tool", "tool_call_id": "c1", "content": "4"}]}, "c1"),
        ({"messages": [{"role": "user", "content": None}]}, "null"),
    ],
)
def test_what_does_not_go_together_is_refused(hub: Hub, more: Any, word: str) -> None:
    with pytest.raises(openai.BadRequestError, match=word):
        chat(hub, **more)


def test_a_prompt_that_is_too_long_is_told_both_lengths(hub: Hub) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(hub, messages=[{"role": "user", "content": "word " * 3000}])
    assert caught.value.code == "context_length_exceeded"
    assert len(re.findall(r"\d{3,}", caught.value.message)) >= 2


def test_a_request_that_outlives_its_deadline_is_told_so(hub: Hub) -> None:
    hub.start_engine(TOKENS_PER_SECOND=2)
    try:
        with pytest.raises(openai.APIStatusError) as caught:
            chat(hub, extra_body={"deadline_s": 0.7})
    finally:
        hub.start_engine()
    assert caught.value.status_code == 504
    assert caught.value.code == "deadline_exceeded"


def test_a_full_queue_says_when_to_come_back(hub: Hub) -> None:
    hub.start_engine("--max-rows", "1", TOKENS_PER_SECOND=5)
    try:
        with pytest.raises(openai.RateLimitError) as caught:
            chat(hub, n=16)
    finally:
        hub.start_engine()
    assert int(caught.value.response.headers["Retry-After"]) >= 1
