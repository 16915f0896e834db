"""Who waits, for how long and behind whom: keys in turn, limits, deadlines, leaving, draining."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from backends.base import LoadedModel, Sampling
from backends.fake import FakeBackend
from inference.engine.requests.places import Place
from inference.engine.requests.row import MOST_RESERVED, Row
from inference.engine.requests.waiting import Waiting
from inference.gateway import client
from inference.protocol import Chunk, DeadlineExceeded, Done, Embed, Folder, Generate
from registry.errors import TooManyRequests, Unavailable
from registry.storage import paths
from tests.inference.builders import make_base_folder
from tests.inference.engines import ask, running_engine, text_of, until

pytestmark = pytest.mark.any_database
SLOW: dict[str, Any] = {"tokens_per_second": 50, "reply_words": 500}


def make_row(
    name: str, key: str = "", running: int | None = None, waiting: int | None = None
) -> Row:
    request = Generate(
        request_id=name,
        base=Folder(path="base/tiny"),
        sampling=Sampling(),
        key=key,
        key_running=running,
        key_waiting=waiting,
    )
    return Row(request, Place(paths.base_dir("tiny")), lambda event: None)


def test_an_answer_without_a_limit_reserves_no_more_than_a_long_one() -> None:
    row = make_row("endless")
    row.request = row.request.model_copy(update={"sampling": Sampling(max_tokens=None)})
    assert row.growth == MOST_RESERVED
    row.completion_tokens = 2 * MOST_RESERVED
    assert row.growth == 0


def order(waiting: Waiting, running: Counter[str] | None = None) -> list[str]:
    """The names of rows as they would be begun."""
    names = []
    while row := waiting.first(running or Counter()):
        names.append(row.uid)
        waiting.turn_over(row)
        waiting.remove(row)
    return names


def test_keys_take_turns() -> None:
    waiting = Waiting()
    for name, key in (("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("c1", "c"), ("c2", "c")):
        waiting.add(make_row(name, key), 1)
    assert order(waiting) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_a_key_at_its_limit_lets_others_pass() -> None:
    waiting = Waiting()
    waiting.add(make_row("a1", "a", running=2), 1)
    waiting.add(make_row("b1", "b"), 1)
    assert order(waiting, Counter(a=2)) == ["b1"]
    assert len(waiting) == 1


def test_a_key_waits_no_more_often_than_it_may() -> None:
    waiting = Waiting()
    for number in range(2):
        waiting.add(make_row(f"a{number}", "a", waiting=2), 1)
    with pytest.raises(TooManyRequests, match="2 requests of this key") as caught:
        waiting.add(make_row("a2", "a", waiting=2), 7)
    assert caught.value.retry_after == 7
    waiting.add(make_row("b", "b", waiting=2), 1)


def asked(base: Folder, name: str, **fields: object) -> Generate:
    return ask(base, request_id=name).model_copy(update=fields)


async def test_a_greedy_key_does_not_hold_up_another() -> None:
    base = make_base_folder()
    ended: list[str] = []

    async def one(name: str, key: str) -> None:
        await text_of(asked(base, name, key=key, sampling=Sampling(max_tokens=5)))
        ended.append(name)

    async with running_engine(FakeBackend(tokens_per_second=100), max_rows=1, max_queue=32) as e:
        greedy = [asyncio.create_task(one(f"a{n}", "a")) for n in range(8)]
        await until(lambda: e.stats()["waiting"] >= 6)
        await one("b", "b")
        await asyncio.gather(*greedy)
    assert ended.index("b") <= 3


async def test_one_key_runs_no_more_at_once_than_it_may() -> None:
    base = make_base_folder()
    async with running_engine(FakeBackend(**SLOW)) as engine:
        tasks = [
            asyncio.create_task(text_of(asked(base, str(n), key="a", key_running=2)))
            for n in range(4)
        ]
        await until(lambda: engine.stats()["waiting"] == 2)
        other = asyncio.create_task(text_of(asked(base, "other", key="b")))
        await until(lambda: engine.stats()["running"] == 3)
        for task in (*tasks, other):
            task.cancel()
        await asyncio.gather(*tasks, other, return_exceptions=True)


async def test_a_request_past_its_deadline_ends_with_what_it_has() -> None:
    base = make_base_folder()
    chunks = 0

    async def read() -> None:
        nonlocal chunks
        async with aclosing(client.generate(asked(base, "one", deadline_s=0.3))) as events:
            async for event in events:
                chunks += isinstance(event, Chunk)

    async with running_engine(FakeBackend(**SLOW)) as engine:
        with pytest.raises(DeadlineExceeded, match=r"0\.3 s") as caught:
            await read()
        await until(lambda: engine.stats()["running"] == 0, timeout=0.1)
        assert engine.stats()["late"] == 1
    assert chunks > 3
    assert chunks <= getattr(caught.value, "completion_tokens", 0) <= chunks + 2


async def test_an_answer_whose_length_nobody_chose_is_cut_at_its_deadline() -> None:
    base = make_base_folder()
    async with running_engine(FakeBackend(**SLOW), max_rows=1) as engine:
        request = asked(base, "one", deadline_s=0.3).model_copy(
            update={"cut_late": True, "sampling": Sampling(max_tokens=None)}
        )
        waiting = request.model_copy(update={"request_id": "two", "deadline_s": 0.1})
        running = asyncio.create_task(events_of(request))
        await until(lambda: engine.stats()["running"] == 1)
        with pytest.raises(DeadlineExceeded, match="while it waited"):  # it has no answer yet
            await events_of(waiting)
        events = await running
        assert engine.stats()["late"] == 2
        await until(lambda: engine.stats()["running"] == 0, timeout=0.1)
    *_, done = events
    assert isinstance(done, Done)
    assert done.finish_reason == "length"
    assert done.completion_tokens >= sum(isinstance(event, Chunk) for event in events) > 3


async def events_of(request: Generate) -> list[object]:
    return [event async for event in client.generate(request)]


async def test_a_deadline_counts_while_waiting_too() -> None:
    base = make_base_folder()
    async with running_engine(FakeBackend(**SLOW), max_rows=1) as engine:
        first = asyncio.create_task(text_of(asked(base, "a")))
        await until(lambda: engine.stats()["running"] == 1)
        with pytest.raises(DeadlineExceeded, match="while it waited"):
            await text_of(asked(base, "b", deadline_s=0.1))
        await until(lambda: engine.stats()["waiting"] == 0, timeout=0.1)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_a_full_queue_says_how_long_to_wait() -> None:
    base = make_base_folder()
    async with running_engine(FakeBackend(**SLOW), max_rows=1, max_queue=1) as engine:
        tasks = [asyncio.create_task(text_of(asked(base, name))) for name in "ab"]
        await until(lambda: engine.stats()["waiting"] == 1)
        with pytest.raises(TooManyRequests) as caught:
            await text_of(asked(base, "c"))
        assert 1 <= caught.value.retry_after <= 60
        assert engine.stats()["refused"] == 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_leaving_frees_the_row_within_100_ms_and_two_steps() -> None:
    base = make_base_folder()
    async with running_engine(FakeBackend(tokens_per_second=100, reply_words=500)) as engine:
        stays = asyncio.create_task(text_of(asked(base, "stays")))
        leaves = asyncio.create_task(text_of(asked(base, "leaves")))
        await until(lambda: engine.stats()["running"] == 2)
        tokens, began = engine.stats()["tokens_generated"], time.perf_counter()
        leaves.cancel()
        await until(lambda: engine.stats()["running"] == 1)
        assert time.perf_counter() - began < 0.1
        # Two steps of two rows, and one that may have ended while this looked.
        assert engine.stats()["tokens_generated"] - tokens <= 6
        stays.cancel()
        await asyncio.gather(stays, leaves, return_exceptions=True)


async def test_embeddings_count_among_what_a_key_runs() -> None:
    base = make_base_folder()
    request = Embed(base=base, texts=["a"], key="a", key_running=1, key_waiting=1)
    async with running_engine(FakeBackend(**SLOW)) as engine:
        stream = asyncio.create_task(text_of(asked(base, "one", key="a", key_running=1)))
        await until(lambda: engine.stats()["running"] == 1)
        waiting = asyncio.create_task(client.embed(request))
        await asyncio.sleep(0.1)
        with pytest.raises(TooManyRequests, match="1 are already waiting"):
            await client.embed(request)
        await client.embed(request.model_copy(update={"key": "b"}))
        assert not waiting.done()
        stream.cancel()
        assert len((await asyncio.wait_for(waiting, 5))["vectors"]) == 1


async def test_a_row_waits_for_the_embeddings_of_its_key() -> None:
    base = make_base_folder()
    async with running_engine() as engine:
        thread = engine._thread
        assert thread.begin_embedding("a", 1)
        assert not thread.begin_embedding("a", 1)
        row = asyncio.create_task(text_of(asked(base, "one", key="a", key_running=1)))
        await until(lambda: engine.stats()["waiting"] == 1)
        await asyncio.sleep(0.1)
        assert not row.done()
        thread.end_embedding("a")
        assert await asyncio.wait_for(row, 5)


async def test_texts_are_embedded_beside_a_stream() -> None:
    base = make_base_folder()
    async with running_engine(FakeBackend(tokens_per_second=100, reply_words=30)) as engine:
        stream = asyncio.create_task(text_of(asked(base, "one")))
        await until(lambda: engine.stats()["running"] == 1)
        reply = await client.embed(Embed(base=base, texts=[f"text {n}" for n in range(10)]))
        assert engine.stats()["running"] == 1
        assert len((await stream).split()) == 30
    assert len(reply["vectors"]) == 10
    assert sum(x * x for x in reply["vectors"][3]) == pytest.approx(1)
    assert reply["prompt_tokens"] == 20


async def test_a_text_is_continued_without_a_chat() -> None:
    base = make_base_folder()
    async with running_engine():
        plain = await text_of(asked(base, "one", messages=[], text="Lunch with Ana"))
        again = await text_of(asked(base, "two", messages=[], text="Lunch with Ana"))
        chat = await text_of(
            asked(base, "three", messages=[{"role": "user", "content": "Lunch with Ana"}])
        )
    assert plain == again != chat


async def test_a_repeated_prompt_is_told_as_cached() -> None:
    base = make_base_folder()
    long = [{"role": "user", "content": "word " * 400}]
    async with running_engine(cache_bytes=2**20) as engine:
        cached = []
        for name in ("one", "two"):
            events = [e async for e in client.generate(asked(base, name, messages=long))]
            assert isinstance(events[-1], Done)
            cached.append(events[-1].cached_tokens)
        stats = engine.stats()
    assert cached[0] == 0 < cached[1] <= 410
    assert (stats["cache_hits"], stats["cached_tokens"]) == (1, cached[1])


async def test_draining_tells_new_requests_when_to_come_back() -> None:
    base = make_base_folder()
    async with running_engine(FakeBackend(tokens_per_second=50, reply_words=20)) as engine:
        running = asyncio.create_task(text_of(asked(base, "a")))
        await until(lambda: engine.stats()["running"] == 1)
        engine.stop()
        await until(lambda: engine.stats()["stopping"])
        with pytest.raises(Unavailable, match="stopping") as caught:
            await text_of(asked(base, "b"))
        assert caught.value.retry_after > 0
        assert len((await running).split()) == 20


async def test_what_does_not_end_while_draining_is_told() -> None:
    base = make_base_folder()
    async with running_engine(FakeBackend(**SLOW), drain_s=0.2) as engine:
        running = asyncio.create_task(text_of(asked(base, "a")))
        await until(lambda: engine.stats()["running"] == 1)
        engine.stop()
        with pytest.raises(Unavailable, match="stopping"):
            await running


class Watched(FakeBackend):
    """Notes the order in which its model steps and finds likelihoods."""

    def __init__(self) -> None:
        super().__init__(tokens_per_second=200, reply_words=500)
        self.done: list[str] = []

    def load(self, *arguments: Any, **options: Any) -> LoadedModel:
        model = super().load(*arguments, **options)
        for name in ("step", "likelihoods"):
            setattr(model, name, self._noting(name, getattr(model, name)))
        return model

    def _noting(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            self.done.append(name)
            return method(*arguments)

        return noted


async def test_a_stream_steps_between_two_classifications() -> None:
    base, backend = make_base_folder(), Watched()
    async with running_engine(backend), aclosing(client.generate(ask(base))) as events:
        async for event in events:
            if isinstance(event, Chunk):
                break
        asked = [
            ask(base, request_id=f"c{n}").model_copy(update={"labels": ["a", "b"]})
            for n in range(4)
        ]
        answers = await asyncio.gather(*map(text_of, asked))
    assert set(answers) <= {"a", "b"}
    ran = "".join("L" if name == "likelihoods" else "s" for name in backend.done)
    assert ran.count("L") == 4
    assert "LL" not in ran
