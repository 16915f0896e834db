"""How tokens are drawn, and several answers: the real `openai` client, real processes."""

from typing import Any

import pytest

from tests.inference.openai_asking import ASK, chat
from tests.inference.processes import Hub

pytestmark = pytest.mark.any_database


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


@pytest.mark.parametrize("parameter", ["max_tokens", "max_completion_tokens"])
def test_the_limit_of_tokens_is_kept(hub: Hub, parameter: str) -> None:
    limit: dict[str, Any] = {parameter: 3}
    answer = hub.openai.chat.completions.create(model="calendar", messages=ASK, **limit)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


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


def test_logprobs_are_told_for_every_token(hub: Hub) -> None:
    answer = chat(hub, logprobs=True, top_logprobs=3)
    told = answer.choices[0].logprobs.content
    assert len(told) in (answer.usage.completion_tokens, answer.usage.completion_tokens - 1)
    said = bytes(byte for token in told for byte in token.bytes)
    assert said.decode() == answer.choices[0].message.content
    # A token may be half a character, which is U+FFFD as a text.
    assert all(bytes(token.bytes).decode(errors="replace") == token.token for token in told)
    assert any("\ufffd" in token.token for token in told)
    rivals = [rival for token in told for rival in token.top_logprobs]
    assert all(bytes(rival.bytes).decode(errors="replace") == rival.token for rival in rivals)
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 for token in told)


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


def test_a_bias_decides_the_words(hub: Hub) -> None:
    from backends.fake.generation import WORDS

    token = 100 + 2 * WORDS.index("river")
    answer = chat(hub, logit_bias={str(token): 100})
    assert set((answer.choices[0].message.content or "").split()) == {"river"}


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
def test_penalties_reach_the_model(hub: Hub, penalty: str) -> None:
    words = (chat(hub, **{penalty: 1.5}).choices[0].message.content or "").split()
    assert len(set(words)) == len(words)
