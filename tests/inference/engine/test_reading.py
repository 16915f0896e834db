"""Prompts that are told token by token: between the steps of other rows, and ended like them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from backends.base import PromptToken, Sampling
from backends.fake import FakeBackend
from backends.fake.generation import FakeModel
from inference.gateway import client
from inference.protocol import Chunk, DeadlineExceeded, Done, Folder, Generate, Read, Started
from registry.errors import HubError
from tests.inference.builders import make_base_folder
from tests.inference.engines import ask, running_engine, until

LONG = "Once upon a time there was a fox in the forest. " * 8


def reading(base: Folder, text: str = LONG, **more: Any) -> Generate:
    asked: dict[str, Any] = {"sampling": Sampling(max_tokens=0), "prompt_logprobs": 1, **more}
    return Generate(request_id="reads", base=base, text=text, **asked)


async def events_of(request: Generate) -> list[Any]:
    return [event async for event in client.generate(request)]


async def test_the_prompt_comes_before_the_answer() -> None:
    base = make_base_folder()
    async with running_engine() as engine:
        request = reading(base, sampling=Sampling(max_tokens=3, logprobs=True))
        events = await events_of(request)
        stats = engine.stats()
    kinds = [type(event) for event in events if not isinstance(event, Chunk)]
    assert kinds == [Started, *[Read] * kinds.count(Read), Done]
    told = [token for event in events if isinstance(event, Read) for token in event.logprobs]
    done = events[-1]
    assert (len(told), done.completion_tokens) == (done.prompt_tokens, 3)
    assert kinds.count(Read) == -(-done.prompt_tokens // 8)  # the fake reads eight at a time
    assert (stats["running"], stats["requests"]) == (0, 1)


async def test_other_answers_go_on_between_its_pieces() -> None:
    base = make_base_folder()
    backend = FakeBackend(tokens_per_second=200, reply_words=400)
    async with running_engine(backend):
        order: list[str] = []

        async def note(name: str, request: Generate) -> None:
            async with aclosing(client.generate(request)) as events:
                async for event in events:
                    if isinstance(event, Chunk | Read):
                        order.append(name)
                    if isinstance(event, Read) and order.count("read") == 10:
                        return

        answering = asyncio.create_task(note("said", ask(base, max_tokens=400)))
        await until(lambda: order)
        await note("read", reading(base, LONG * 3))
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
    between = order[order.index("read") : len(order) - order[::-1].index("read")]
    assert between.count("said") >= 5


async def test_a_reader_who_leaves_ends_it() -> None:
    base = make_base_folder()
    async with running_engine(FakeBackend(tokens_per_second=50)) as engine:
        async with aclosing(client.generate(reading(base, LONG * 10))) as events:
            async for event in events:
                if isinstance(event, Read):
                    break
        assert engine.stats()["running"] == 1
        await until(lambda: engine.stats()["running"] == 0)
        assert len(await events_of(reading(base, "A fox"))) > 2


async def test_a_deadline_ends_it() -> None:
    base = make_base_folder()
    async with running_engine(FakeBackend(tokens_per_second=50)) as engine:
        with pytest.raises(DeadlineExceeded):
            await events_of(reading(base, LONG * 10, deadline_s=0.2))
        await until(lambda: engine.stats()["running"] == 0)


async def test_an_error_in_the_middle_ends_this_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = FakeModel.prompt_logprobs

    def broken(
        self: FakeModel, prompt: Sequence[int], adapter: Path | None, top: int
    ) -> Iterator[list[PromptToken]]:
        yield next(whole(self, prompt, adapter, top))
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(FakeModel, "prompt_logprobs", broken)
    base = make_base_folder()
    async with running_engine() as engine:
        with pytest.raises(HubError, match="failed on this request"):
            await events_of(reading(base))
        assert engine.stats()["running"] == 0
        assert isinstance((await events_of(ask(base, max_tokens=3)))[-1], Done)


async def test_a_prompt_of_tokens_is_told_as_text() -> None:
    from backends.fake.chat import encode_text

    base = make_base_folder()
    tokens = encode_text("A fox")
    async with running_engine():
        for more in ({}, {"prompt_logprobs": None}, {"sampling": Sampling(max_tokens=2)}):
            events = await events_of(reading(base, "", tokens=tokens, **more))
            assert events[0].prompt_tokens == 2
            assert events[1] == Read(text="A fox")
        with pytest.raises(HubError, match="3000 tokens"):
            await events_of(reading(base, "", tokens=[7] * 3000))
