"""The real `openai` client against real processes."""

import asyncio
import json
import re
from typing import Any

import openai
import pytest

from tests.inference.processes import Hub, wait_for

ASK: Any = [{"role": "user", "content": "Lunch with Ana next Friday at noon"}]


@pytest.fixture
def hub(processes: Hub) -> Hub:
    wait_for(lambda: processes.stats().get("running") == 0)
    return processes


def test_models_are_listed_by_every_name(hub: Hub) -> None:
    names = [model.id for model in hub.openai.models.list()]
    assert names == ["calendar", "calendar@0.2.0", "calendar@0.1.0", "base:tiny"]


@pytest.mark.parametrize("name", ["calendar", "calendar@0.1.0", "base:tiny"])
def test_one_model_is_found(hub: Hub, name: str) -> None:
    assert hub.openai.models.retrieve(name).id == name


def test_an_unknown_model_is_not_found(hub: Hub) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        hub.openai.chat.completions.create(model="nobody", messages=ASK)
    assert caught.value.code == "model_not_found"
    assert "calendar" in str(caught.value)


def test_an_answer_names_the_exact_version_and_counts_its_tokens(hub: Hub) -> None:
    answer = hub.openai.chat.completions.create(model="calendar", messages=ASK)
    assert answer.model == "calendar@0.2.0"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens > 0


def test_versions_and_base_answer_differently(hub: Hub) -> None:
    texts = {
        hub.openai.chat.completions.create(model=name, messages=ASK).choices[0].message.content
        for name in ("calendar@0.1.0", "calendar@0.2.0", "base:tiny")
    }
    assert len(texts) == 3


def test_a_stream_spells_the_same_answer(hub: Hub) -> None:
    client = hub.openai
    whole = client.chat.completions.create(model="calendar", messages=ASK)
    chunks = list(client.chat.completions.create(model="calendar", messages=ASK, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


def test_a_stream_includes_usage_when_asked(hub: Hub) -> None:
    chunks = list(
        hub.openai.chat.completions.create(
            model="calendar", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


@pytest.mark.parametrize("parameter", ["max_tokens", "max_completion_tokens"])
def test_the_limit_of_tokens_is_kept(hub: Hub, parameter: str) -> None:
    limit: dict[str, Any] = {parameter: 3}
    answer = hub.openai.chat.completions.create(model="calendar", messages=ASK, **limit)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_stop_texts_end_the_answer(hub: Hub) -> None:
    client = hub.openai
    whole = client.chat.completions.create(model="calendar", messages=ASK)
    text = whole.choices[0].message.content or ""
    word = text.split()[3]
    cut = client.chat.completions.create(model="calendar", messages=ASK, stop=word)
    assert cut.choices[0].message.content == text[: text.index(word)]
    assert cut.choices[0].finish_reason == "stop"


def test_a_seed_repeats_a_draw(hub: Hub) -> None:
    def draw(seed: int) -> str | None:
        answer = hub.openai.chat.completions.create(
            model="calendar", messages=ASK, temperature=1, top_p=0.9, seed=seed
        )
        return answer.choices[0].message.content

    assert draw(1) == draw(1) != draw(2)


def test_text_parts_are_one_text(hub: Hub) -> None:
    client = hub.openai
    parts: Any = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Lunch with Ana "},
                {"type": "text", "text": "next Friday at noon"},
            ],
        }
    ]
    first = client.chat.completions.create(model="calendar", messages=parts)
    second = client.chat.completions.create(model="calendar", messages=ASK)
    assert first.choices[0].message.content == second.choices[0].message.content


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
        ("reasoning_effort", "high", "unsupported_parameter"),
        ("store", True, "unsupported_parameter"),
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


def test_an_unknown_parameter_is_refused(hub: Hub) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        hub.openai.chat.completions.create(
            model="calendar", messages=ASK, extra_body={"tempreature": 1}
        )
    assert caught.value.code == "unknown_parameter"
    assert caught.value.param == "tempreature"


def test_an_image_is_refused(hub: Hub) -> None:
    image: Any = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    with pytest.raises(openai.BadRequestError) as caught:
        hub.openai.chat.completions.create(
            model="calendar", messages=[{"role": "user", "content": image}]
        )
    assert "messages" in str(caught.value.param)


async def test_sixteen_at_once_all_get_their_own_answer(hub: Hub) -> None:
    async with hub.async_openai() as client:

        async def ask(number: int) -> str:
            chunks = await client.chat.completions.create(
                model="calendar",
                messages=[{"role": "user", "content": f"Meeting {number}"}],
                stream=True,
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])

        alone = [await ask(number) for number in range(16)]
        together = await asyncio.gather(*(ask(number) for number in range(16)))
    assert together == alone
    assert len(set(alone)) == 16


# --------------------------------------------------------------------------- several answers


def chat(hub: Hub, **more: Any) -> Any:
    asked: dict[str, Any] = {"model": "calendar", "messages": ASK, **more}
    return hub.openai.chat.completions.create(**asked)


def test_several_answers_have_seeds_that_follow_each_other(hub: Hub) -> None:
    answer = chat(hub, n=3, temperature=1, seed=7)
    alone = [chat(hub, temperature=1, seed=7 + row) for row in range(3)]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in answer.choices]
    assert texts == [one.choices[0].message.content for one in alone]
    assert len(set(texts)) == 3
    assert answer.usage.prompt_tokens == alone[0].usage.prompt_tokens
    assert answer.usage.completion_tokens == sum(one.usage.completion_tokens for one in alone)


def test_several_answers_stream_side_by_side(hub: Hub) -> None:
    whole = chat(hub, n=2, temperature=1, seed=7)
    texts, ends = ["", ""], {}
    for chunk in chat(hub, n=2, temperature=1, seed=7, stream=True):
        [choice] = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        if choice.finish_reason:
            ends[choice.index] = choice.finish_reason
    assert texts == [choice.message.content for choice in whole.choices]
    assert ends == {0: "stop", 1: "stop"}


def test_the_rows_of_one_prompt_share_it(hub: Hub) -> None:
    long = [{"role": "user", "content": "Once upon a time there was a fox. " * 60}]
    hits = hub.stats()["cache_hits"]
    chat(hub, messages=long, n=4, max_tokens=2)
    assert hub.stats()["cache_hits"] - hits == 3


# --------------------------------------------------------------------------- logprobs


def test_logprobs_are_told_for_every_token(hub: Hub) -> None:
    answer = chat(hub, logprobs=True, top_logprobs=3)
    told = answer.choices[0].logprobs.content
    assert len(told) in (answer.usage.completion_tokens, answer.usage.completion_tokens - 1)
    # A token may be half a character, which then is U+FFFD on both sides.
    assert _ascii("".join(token.token for token in told)) == _ascii(
        answer.choices[0].message.content
    )
    assert all(bytes(token.bytes).decode() == token.token for token in told if token.bytes)
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 for token in told)


def _ascii(text: str) -> str:
    return "".join(letter for letter in text if letter.isascii())


def test_logprobs_stream_with_their_text(hub: Hub) -> None:
    whole = chat(hub, logprobs=True, top_logprobs=1)
    chunks = list(chat(hub, logprobs=True, top_logprobs=1, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    told = [
        token.logprob
        for chunk in chunks
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content
    ]
    assert text == whole.choices[0].message.content
    assert told == [token.logprob for token in whole.choices[0].logprobs.content]


# --------------------------------------------------------------------------- sampling


def test_a_bias_decides_the_words(hub: Hub) -> None:
    from backends.fake.generation import WORDS

    token = 100 + 2 * WORDS.index("river")
    answer = chat(hub, logit_bias={str(token): 100})
    assert set((answer.choices[0].message.content or "").split()) == {"river"}


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
def test_penalties_reach_the_model(hub: Hub, penalty: str) -> None:
    words = (chat(hub, **{penalty: 1.5}).choices[0].message.content or "").split()
    assert len(set(words)) == len(words)


# --------------------------------------------------------------------------- formats

DAY = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "day": {"enum": ["Monday", "Friday"]}},
    "required": ["title", "day"],
    "additionalProperties": False,
}


def test_a_json_object_is_one(hub: Hub) -> None:
    answer = chat(hub, response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


@pytest.mark.parametrize("strict", [True, False, None])
def test_a_json_schema_is_kept(hub: Hub, strict: bool | None) -> None:
    schema = {"name": "event", "schema": DAY, "strict": strict}
    answer = chat(hub, response_format={"type": "json_schema", "json_schema": schema})
    value = json.loads(answer.choices[0].message.content)
    assert set(value) == {"title", "day"}
    assert value["day"] in ("Monday", "Friday")


def test_a_pydantic_class_is_parsed(hub: Hub) -> None:
    from pydantic import BaseModel

    class Event(BaseModel):
        title: str
        hour: int

    answer = hub.openai.chat.completions.parse(
        model="calendar", messages=ASK, response_format=Event
    )
    assert isinstance(answer.choices[0].message.parsed, Event)


def test_a_schema_that_cannot_be_followed_is_refused(hub: Hub) -> None:
    schema = {"name": "event", "schema": {"type": "nonsense"}}
    with pytest.raises(openai.BadRequestError, match="nonsense"):
        chat(hub, response_format={"type": "json_schema", "json_schema": schema})


# --------------------------------------------------------------------------- tools

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "clock"}}
TOOLS = [CLOCK, WEATHER]
CALL: Any = [{"role": "user", "content": "Ask weather for Oslo"}]


def test_a_tool_is_called_and_its_result_read(hub: Hub) -> None:
    answer = chat(hub, messages=CALL, tools=TOOLS)
    assert answer.choices[0].finish_reason == "tool_calls"
    message = answer.choices[0].message
    assert message.content is None
    [call] = message.tool_calls
    assert call.function.name == "weather"
    assert set(json.loads(call.function.arguments)) == {"city"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "4 degrees"}
    final = chat(hub, messages=[*CALL, message, result], tools=TOOLS)
    assert final.choices[0].finish_reason == "stop"
    assert final.choices[0].message.content


def test_a_call_streams_in_deltas(hub: Hub) -> None:
    whole = chat(hub, messages=CALL, tools=TOOLS).choices[0].message.tool_calls[0].function
    name, arguments, ids = "", "", set()
    for chunk in chat(hub, messages=CALL, tools=TOOLS, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            assert delta.index == 0
            ids |= {delta.id} - {None}
            name += delta.function.name or ""
            arguments += delta.function.arguments or ""
        last = chunk.choices[0].finish_reason
    assert (name, arguments, last) == (whole.name, whole.arguments, "tool_calls")
    assert len(ids) == 1


def test_the_clients_own_accumulation_of_a_stream_agrees(hub: Hub) -> None:
    with hub.openai.chat.completions.stream(model="calendar", messages=CALL, tools=TOOLS) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.name == "weather"


def test_without_need_no_tool_is_called(hub: Hub) -> None:
    answer = chat(hub, tools=TOOLS)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.tool_calls is None


def test_none_hides_the_tools(hub: Hub) -> None:
    told = chat(hub, messages=CALL, tools=TOOLS, tool_choice="none")
    plain = chat(hub, messages=CALL)
    assert told.choices[0].message.content == plain.choices[0].message.content
    assert told.usage.prompt_tokens == plain.usage.prompt_tokens


def test_a_call_can_be_required(hub: Hub) -> None:
    [call] = chat(hub, tools=TOOLS, tool_choice="required").choices[0].message.tool_calls
    assert call.function.name in ("weather", "clock")


@pytest.mark.parametrize("name", ["weather", "clock"])
def test_a_named_tool_is_called(hub: Hub, name: str) -> None:
    choice = {"type": "function", "function": {"name": name}}
    answer = chat(hub, tools=TOOLS, tool_choice=choice)
    assert [c.function.name for c in answer.choices[0].message.tool_calls] == [name]


def test_a_call_that_cannot_be_read_is_an_error(hub: Hub) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        chat(hub, messages=CALL, tools=TOOLS, max_tokens=4)
    assert caught.value.code == "tool_parse_failed"


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"tool_choice": "required"}, "needs tools"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "none of the tools",
        ),
        ({"tools": [CLOCK, CLOCK]}, "same name"),
        ({"tools": TOOLS, "response_format": {"type": "json_object"}}, "response_format"),
        ({"top_logprobs": 2}, "logprobs"),
        ({"messages": [*ASK, {"role": "tool", "tool_call_id": "c1", "content": "4"}]}, "c1"),
        ({"messages": [{"role": "user", "content": None}]}, "null"),
    ],
)
def test_what_does_not_go_together_is_refused(hub: Hub, more: Any, word: str) -> None:
    with pytest.raises(openai.BadRequestError, match=word):
        chat(hub, **more)


# --------------------------------------------------------------------------- completions


def complete(hub: Hub, **more: Any) -> Any:
    asked: dict[str, Any] = {"model": "calendar", "prompt": "Once upon a time", **more}
    return hub.openai.completions.create(**asked)


def test_a_text_is_continued(hub: Hub) -> None:
    answer = complete(hub)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.choices[0].text
    chunks = list(complete(hub, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_several_prompts_are_answered_in_order(hub: Hub) -> None:
    prompts = ["Once upon a time", "In the end"]
    answer = complete(hub, prompt=prompts, n=2, temperature=1, seed=3)
    alone = [
        complete(hub, prompt=prompt, temperature=1, seed=seed).choices[0].text
        for prompt in prompts
        for seed in (3, 4)
    ]
    assert [choice.text for choice in answer.choices] == alone


def test_echo_says_the_prompt_first(hub: Hub) -> None:
    plain = complete(hub).choices[0].text
    assert complete(hub, echo=True).choices[0].text == "Once upon a time" + plain
    chunks = complete(hub, echo=True, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Once upon a time" + plain


def test_logprobs_have_the_old_form(hub: Hub) -> None:
    answer = complete(hub, logprobs=2, max_tokens=5)
    told = answer.choices[0].logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.text_offset) == 5
    assert all(len(top) == 2 for top in told.top_logprobs)
    streamed = [c.choices[0].logprobs for c in complete(hub, logprobs=2, max_tokens=5, stream=True)]
    offsets = [offset for one in streamed if one for offset in one.text_offset]
    assert offsets == told.text_offset


@pytest.mark.parametrize(
    ("more", "param"),
    [({"best_of": 3}, "best_of"), ({"suffix": "end"}, "suffix"), ({"prompt": [1, 2]}, "prompt")],
)
def test_what_completions_do_not_honour_is_refused(hub: Hub, more: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        complete(hub, **more)
    assert str(caught.value.param).startswith(param)


# --------------------------------------------------------------------------- embeddings


def test_texts_are_embedded(hub: Hub) -> None:
    texts = ["lunch with Ana", "lunch with Ana today", "a wholly different thing"]
    answer = hub.openai.embeddings.create(model="calendar", input=texts)  # base64 by default
    exact = hub.openai.embeddings.create(model="calendar", input=texts, encoding_format="float")
    one, near, far = (row.embedding for row in answer.data)
    assert sum(x * x for x in one) == pytest.approx(1, abs=1e-5)
    assert _dot(one, near) > _dot(one, far)
    assert one == pytest.approx(exact.data[0].embedding, abs=1e-6)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    assert answer.model == "calendar@0.2.0"


def _dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


# --------------------------------------------------------------------------- limits


def test_usage_tells_what_was_cached(hub: Hub) -> None:
    long = [{"role": "user", "content": "The cat sat on the mat and slept. " * 60}]
    chat(hub, messages=long, max_tokens=2)
    again = chat(hub, messages=long, max_tokens=2).usage
    assert 0 < again.prompt_tokens_details.cached_tokens < again.prompt_tokens


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
