"""Prompts of `/v1/completions`: as tokens, many at once, and told token by token. The real client
against an engine in the test process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from asgiref.sync import sync_to_async

from backends.fake import FakeBackend, chat
from inference.models import ApiToken, InferenceRequest
from inference.v1.openai.bodies import Places
from tests.inference.builders import make_base
from tests.inference.engines import running_engine
from tests.inference.openai_asking import in_process

pytestmark = [pytest.mark.usefixtures("db_in_threads"), pytest.mark.any_database]
FOX = "Once upon a time there was a fox in the forest"


@pytest.fixture
async def client(db_in_threads: None) -> AsyncIterator[openai.AsyncOpenAI]:
    await sync_to_async(make_base)()
    async with running_engine(FakeBackend(), cache_bytes=2**20), in_process() as client:
        yield client


async def complete(client: openai.AsyncOpenAI, **more: Any) -> Any:
    asked: dict[str, Any] = {"model": "base:tiny", "prompt": FOX, **more}
    return await client.completions.create(**asked)


async def test_tokens_are_continued_as_their_text_is(client: openai.AsyncOpenAI) -> None:
    by_text = (await complete(client)).choices[0].text
    by_tokens = await complete(client, prompt=chat.encode_text(FOX), echo=True)
    assert by_tokens.choices[0].text == FOX + by_text
    assert by_tokens.usage.prompt_tokens == len(FOX.split())
    several = await complete(client, prompt=[chat.encode_text(FOX), chat.encode_text("The end")])
    assert several.choices[0].text == by_text
    assert len(several.choices) == 2
    chunks = await complete(client, prompt=chat.encode_text(FOX), echo=True, stream=True)
    said = "".join([chunk.choices[0].text async for chunk in chunks])
    assert said == FOX + by_text


@pytest.mark.both_databases
async def test_the_log_has_the_text_of_tokens(client: openai.AsyncOpenAI, settings: Any) -> None:
    settings.LOG_PROMPTS = True
    await complete(client, prompt=chat.encode_text(FOX), max_tokens=3)
    row = await InferenceRequest.objects.aget()
    assert row.prompt == FOX


async def test_more_prompts_than_the_engine_takes_at_once_are_answered(
    client: openai.AsyncOpenAI,
) -> None:
    """The engine here runs 8 and lets 8 wait."""
    prompts = [f"Story number {n} begins" for n in range(40)]
    answer = await complete(client, prompt=prompts, max_tokens=4, n=2, temperature=1, seed=3)
    assert [choice.index for choice in answer.choices] == list(range(80))
    alone = await complete(client, prompt=prompts[33], max_tokens=4, temperature=1, seed=4)
    assert answer.choices[67].text == alone.choices[0].text


@pytest.mark.both_databases
async def test_many_prompts_keep_to_what_a_key_may_run(client: openai.AsyncOpenAI) -> None:
    def issue() -> str:
        return ApiToken.issue("laptop", max_running=2, max_waiting=1)[1]

    keyed = client.with_options(api_key=await sync_to_async(issue)())
    answer = await complete(keyed, prompt=[f"Story {n}" for n in range(20)], max_tokens=2)
    assert len(answer.choices) == 20


async def test_an_echo_with_logprobs_tells_the_prompt(client: openai.AsyncOpenAI) -> None:
    tokens = chat.encode_text(FOX)
    told = (await complete(client, prompt=tokens, echo=True, logprobs=2, max_tokens=1)).choices[0]
    words = FOX.split()
    assert "".join(told.logprobs.tokens[:-1]) == FOX
    assert told.text.startswith(FOX)
    assert len(told.logprobs.token_logprobs) == len(words) + 1
    assert told.logprobs.token_logprobs[0] is None
    assert told.logprobs.top_logprobs[0] is None
    for offset, word in zip(told.logprobs.text_offset[1:], words[1:], strict=False):
        assert told.text[offset:].startswith(" " + word)
    for logprob, top, name in zip(
        told.logprobs.token_logprobs[1:],
        told.logprobs.top_logprobs[1:],
        told.logprobs.tokens[1:],
        strict=True,
    ):
        assert top[name] == logprob
        assert logprob <= max(top.values())
        assert 2 <= len(top) <= 3  # the token itself, too, where it is none of the two
    by_text = (await complete(client, echo=True, logprobs=2, max_tokens=1)).choices[0]
    assert by_text.logprobs == told.logprobs


async def test_no_token_may_be_asked_for(client: openai.AsyncOpenAI) -> None:
    told = await complete(client, echo=True, logprobs=1, max_tokens=0)
    assert told.choices[0].text == FOX
    assert told.choices[0].finish_reason == "length"
    assert len(told.choices[0].logprobs.tokens) == len(FOX.split())
    assert told.usage.completion_tokens == 0
    assert (await complete(client, max_tokens=0)).choices[0].text == ""
    echoed = await complete(client, prompt=chat.encode_text(FOX), max_tokens=0, echo=True)
    assert (echoed.choices[0].text, echoed.choices[0].logprobs) == (FOX, None)


async def test_a_streams_echo_has_the_same_logprobs(client: openai.AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"echo": True, "logprobs": 1, "max_tokens": 6}
    for prompt in (FOX, chat.encode_text(FOX)):
        whole = (await complete(client, prompt=prompt, **asked)).choices[0]
        chunks = [c async for c in await complete(client, prompt=prompt, stream=True, **asked)]
        told = [c.choices[0].logprobs for c in chunks if c.choices[0].logprobs]
        assert "".join(c.choices[0].text for c in chunks) == whole.text
        for name in ("tokens", "token_logprobs", "text_offset"):
            joined = [value for one in told for value in getattr(one, name)]
            assert joined == getattr(whole.logprobs, name)


async def test_without_max_tokens_an_answer_ends_where_the_context_does(settings: Any) -> None:
    await sync_to_async(make_base)()
    backend = FakeBackend(reply_words=2000, tokens_per_second=500)
    async with running_engine(backend), in_process() as client:
        answer = await complete(client, prompt="word " * 2000)
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage.total_tokens == 2048
        settings.REQUEST_DEADLINE_S = 0.2  # or at the hub's deadline
        cut = await complete(client)
        assert cut.choices[0].finish_reason == "length"
        assert 0 < cut.usage.completion_tokens < 512
        with pytest.raises(openai.APIStatusError, match=r"deadline of 0\.1 s"):  # its own counts
            await complete(client, extra_body={"deadline_s": 0.1})


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("", "it is empty; send at least one character"),
        ([], "the list is empty"),
        (["a", ""], "text 2 of 2: it is empty"),
        (["a", [1]], "text 2 of 2: texts and lists of tokens cannot be mixed"),
        ([[1, -4]], "text 1 of 1: a list of tokens has whole numbers from 0 on; the number -4"),
        ([1, 2.5], "a list of tokens has whole numbers from 0 on; the number 2.5 came"),
        (["a"] * 257, "257 texts came, and a request may have 256"),
        ({"text": "a"}, "an object came where a text"),
        (7, "the number 7 came where a text"),
    ],
)
async def test_a_wrong_prompt_is_named(
    client: openai.AsyncOpenAI, prompt: Any, sentence: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await complete(client, prompt=prompt)
    assert sentence in caught.value.message
    assert caught.value.param == "prompt"


def test_what_a_tokenizer_puts_before_a_text_has_no_place_in_it() -> None:
    def of(*tokens: bytes) -> list[int]:
        places = Places("Hi é!")
        told: list[Any] = [{"bytes": list(data)} for data in tokens]
        return [places.next(one) for one in told]

    assert of(b"<s>", b"Hi", b" ", b"\xc3", b"\xa9", b"!") == [0, 0, 2, 3, 3, 4]
    assert of(b"<s>", b" Hi", b" ", b"\xc3\xa9", b"!") == [0, 0, 2, 3, 4]
