"""What happens to parameters that the hub does not know or cannot heed, and to other servers' "off"."""

import difflib
import json
from typing import Any

import pytest
from django.http import HttpResponse

from inference.native.schemas import InferenceIn
from inference.v1.anthropic.schemas import MessagesIn
from inference.v1.compatibility import Unsupported
from inference.v1.openai.schemas import ChatCompletionIn, CompletionIn
from tests.inference.openai_asking import ASK
from tests.inference.processes import Hub

pytestmark = pytest.mark.any_database


def asked(**more: Any) -> ChatCompletionIn:
    return ChatCompletionIn.model_validate({"model": "calendar", "messages": ASK, **more})


def test_what_is_ignored_is_named_in_a_header(hub: Hub) -> None:
    extra: Any = {"tempreature": 1, "foo bar\n": 1, "user": "ana", "ignore_eos": False}
    raw = hub.openai.chat.completions.with_raw_response.create(
        model="calendar", messages=ASK, verbosity="low", store=True, extra_body=extra
    )
    assert raw.parse().choices[0].message.content
    named = raw.headers["x-hub-ignored"].split(", ")
    assert sorted(named) == [
        "foo%20bar%0A",
        "store",
        "tempreature;did-you-mean=temperature",
        "verbosity",
    ]


def test_a_stream_names_what_is_ignored(hub: Hub) -> None:
    with hub.openai.chat.completions.with_streaming_response.create(
        model="calendar", messages=ASK, stream=True, extra_body={"foo": 1}
    ) as raw:
        assert raw.headers["x-hub-ignored"] == "foo"


def test_anthropics_client_is_told_too(hub: Hub) -> None:
    import anthropic

    with anthropic.Anthropic(base_url=hub.url, api_key="any", max_retries=0) as client:
        raw = client.messages.with_raw_response.create(
            model="calendar", max_tokens=8, messages=ASK, extra_body={"stop_sequence": ["x"]}
        )
        counted = client.messages.with_raw_response.count_tokens(
            model="calendar", messages=ASK, extra_body={"foo": 1}
        )
    assert raw.headers["x-hub-ignored"] == "stop_sequence;did-you-mean=stop_sequences"
    assert counted.headers["x-hub-ignored"] == "foo"
    assert counted.parse().input_tokens > 0


def test_a_hundred_thousand_of_them_cost_what_twenty_do(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def close(name: str, *options: Any) -> list[str]:
        looked.append(name)
        return []

    monkeypatch.setattr(difflib, "get_close_matches", close)
    sent = {f"made_up_{n}": n for n in range(100_000)}
    request = ChatCompletionIn.model_validate({"model": "m", "messages": ASK, **sent})
    header = request.told(HttpResponse())["x-hub-ignored"]
    assert header.split(", ") == [f"made_up_{n}" for n in range(20)]
    assert len(looked) == 20


def test_where_nothing_is_ignored_there_is_no_header(hub: Hub) -> None:
    raw = hub.openai.chat.completions.with_raw_response.create(
        model="calendar", messages=ASK, user="ana", service_tier="auto", store=False
    )
    assert "x-hub-ignored" not in raw.headers


@pytest.mark.parametrize(
    ("sent", "message"),
    [({"tempreature": 1}, "Did you mean 'temperature'"), ({"verbosity": "low"}, "in the prompt")],
)
def test_by_a_setting_they_are_refused(settings: Any, sent: Any, message: str) -> None:
    settings.UNKNOWN_PARAMETERS = "refuse"
    with pytest.raises(Unsupported, match=message):
        asked(**sent).request()
    asked(verbosity="medium", store=False, ignore_eos=False).request()


@pytest.mark.parametrize("name", ["guided_json", "structured_outputs", "grammar"])
def test_another_servers_grammar_is_never_ignored(name: str) -> None:
    with pytest.raises(Unsupported, match="response_format"):
        asked(**{name: {"type": "object"}}).request()


def test_off_as_other_servers_write_it(hub: Hub) -> None:
    sampling = asked(top_k=-1, max_tokens=-1, top_p=0).sampling()
    assert (sampling.top_k, sampling.max_tokens, sampling.top_p) == (0, None, 0)
    off: Any = {"top_k": -1, "max_tokens": -1, "top_p": 0, "ignore_eos": False}
    told = hub.openai.chat.completions.create(model="calendar", messages=ASK, extra_body=off)
    assert told.choices[0].finish_reason == "stop"
    request = {"model": "m", "messages": ASK, "max_tokens": 9, "top_k": -1, "top_p": 0}
    assert MessagesIn.model_validate(request).sampling().top_k == 0


def test_a_chat_is_not_cut_short_where_nobody_said_so() -> None:
    assert asked().sampling().max_tokens is None
    native = InferenceIn.model_validate({"model": "m", "prompt": "hello"})
    assert native.sampling().max_tokens is None
    text = CompletionIn.model_validate({"model": "m", "prompt": "hello"})
    assert text.sampling().max_tokens is None


def test_a_json_object_with_a_schema_keeps_it(hub: Hub) -> None:
    schema = {"type": "object", "properties": {"day": {"const": "Friday"}}, "required": ["day"]}
    response_format: Any = {"type": "json_object", "schema": schema}
    answer = hub.openai.chat.completions.create(
        model="calendar", messages=ASK, response_format=response_format
    )
    assert json.loads(answer.choices[0].message.content or "") == {"day": "Friday"}


def test_the_log_says_that_an_answer_had_no_limit(hub: Hub) -> None:
    hub.openai.chat.completions.create(model="calendar", messages=ASK)
    assert hub.requests()[0]["params"]["max_tokens"] is None
