"""Models, chats and streams with the real `openai` client against real processes."""

import asyncio
from typing import Any

import openai
import pytest

from tests.inference.openai_asking import ASK, chat
from tests.inference.processes import Hub


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


def test_usage_tells_what_was_cached(hub: Hub) -> None:
    long = [{"role": "user", "content": "The cat sat on the mat and slept. " * 60}]
    chat(hub, messages=long, max_tokens=2)
    again = chat(hub, messages=long, max_tokens=2).usage
    assert 0 < again.prompt_tokens_details.cached_tokens < again.prompt_tokens
