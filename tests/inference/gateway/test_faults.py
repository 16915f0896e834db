"""The engine's own end: whatever happens on its thread, its clients are told and it goes."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from backends.base import Delta, GPUInterrupted, LoadedModel, LoadOptions, Message, OutOfMemory
from backends.fake import FakeBackend
from backends.fake.generation import FakeModel
from inference.engine import loads
from inference.engine.memory.pins import MOST_DEATHS, Pins
from inference.engine.requests import rendering
from inference.gateway import client
from inference.protocol import Count, Embed, EngineFailure, Load
from registry.errors import HubError, Unavailable
from registry.storage import paths
from tests.inference.builders import make_base_folder
from tests.inference.engine.test_memory import make_full
from tests.inference.engines import ask, running_engine, text_of, until

pytestmark = pytest.mark.any_database


class LostDevice(FakeBackend):
    """Models of a device that is lost at a word: no step succeeds then, and none can be closed."""

    lost = False

    def load(
        self, base: Path, adapter: Path | None = None, options: LoadOptions = LoadOptions()
    ) -> LoadedModel:
        model = super().load(base, adapter, options)
        assert isinstance(model, FakeModel)
        step, close = model.step, model.close

        def failing_step() -> list[Delta]:
            if self.lost:
                raise RuntimeError("command buffer execution failed")
            return step()

        def failing_close() -> None:
            if self.lost:
                raise RuntimeError("the device is gone")
            close()

        model.step, model.close = failing_step, failing_close  # type: ignore[method-assign]
        return model


async def test_a_lost_device_ends_every_stream_of_every_model_and_the_engine() -> None:
    first, second = make_base_folder("first"), make_base_folder("second")
    backend = LostDevice(tokens_per_second=50, reply_words=500)
    with pytest.raises(EngineFailure):  # noqa: PT012 (the engine's own end comes with the block's)
        async with running_engine(backend, max_rows=3) as engine:
            names = [(first, "a"), (first, "b"), (second, "c"), (second, "waits")]
            tasks = [asyncio.create_task(text_of(ask(b, request_id=n))) for b, n in names]
            await until(lambda: (engine.stats()["running"], engine.stats()["waiting"]) == (3, 1))
            backend.lost = True
            ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert all(isinstance(end, HubError) and end.status in (500, 503) for end in ends), ends
    assert any("is being restarted" in str(end) for end in ends)


class Stuck(FakeBackend):
    """A device that takes its time for what is embedded."""

    def load(
        self, base: Path, adapter: Path | None = None, options: LoadOptions = LoadOptions()
    ) -> LoadedModel:
        model = super().load(base, adapter, options)
        assert isinstance(model, FakeModel)
        embed = model.embed

        def slow_embed(prompts: Sequence[Sequence[int]], adapter: Path | None) -> list[list[float]]:
            time.sleep(0.5)
            return embed(prompts, adapter)

        model.embed = slow_embed  # type: ignore[method-assign]
        return model


async def test_an_engine_that_stops_tells_who_waits_and_minds_nobody_who_left() -> None:
    base = make_base_folder()
    async with running_engine(Stuck(), drain_s=0) as engine:
        await client.load(Load(base=base))
        asked = [asyncio.create_task(client.embed(Embed(base=base, texts=["x"]))) for _ in range(4)]
        await asyncio.sleep(0.2)  # one is computed, three wait for the thread
        asked[1].cancel()
        await asyncio.sleep(0.05)
        engine.stop()
        began = time.perf_counter()
        ends = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 5)
        assert time.perf_counter() - began < 3
    assert [type(end) for end in ends[2:]] == [Unavailable, Unavailable]


def die_loading(load: Load) -> AbstractContextManager[None]:
    """Leaves things as a process does that ends while it loads a pinned model, for as long as its
    caller holds on to what it returns."""
    attempt = Pins(paths.run_dir() / "pinned.json").attempt(load)
    attempt.__enter__()
    return attempt


async def test_a_pinned_model_that_kills_the_engine_is_left_out_until_loaded_by_hand() -> None:
    deadly, harmless = Load(base=make_base_folder("deadly")), Load(base=make_base_folder("other"))
    async with running_engine():
        for load in (deadly, harmless):
            await client.load(load.model_copy(update={"pin": True}))
    deaths = [die_loading(deadly) for _ in range(MOST_DEATHS)]
    for _ in range(2):  # and it stays so
        async with running_engine() as engine:
            await until(lambda: [m["base"] for m in engine.stats()["models"]] == ["other"])
            await until(lambda: len(engine.stats()["loading"]) == 1)  # the other one's entry goes
            [left] = engine.stats()["loading"]
            assert (left["state"], left["base"]) == ("failed", "deadly")
            assert "load it again" in left["error"]
    async with running_engine() as engine:
        await client.load(deadly.model_copy(update={"pin": True}))
        assert engine.stats()["loading"] == []
    async with running_engine() as engine:
        await until(lambda: len(engine.stats()["models"]) == 2)
    del deaths


async def test_one_death_is_forgiven() -> None:
    load = Load(base=make_base_folder(), pin=True)
    async with running_engine():
        await client.load(load)
    death = die_loading(load)
    async with running_engine() as engine:
        await until(lambda: len(engine.stats()["models"]) == 1)
        await until(lambda: Pins(paths.run_dir() / "pinned.json").deaths(load) == 0)
    del death


class Short(FakeBackend):
    """Memory is short at first."""

    times = 2

    def load(
        self, base: Path, adapter: Path | None = None, options: LoadOptions = LoadOptions()
    ) -> LoadedModel:
        if self.times:
            self.times -= 1
            raise OutOfMemory("no memory")
        return super().load(base, adapter, options)


async def test_a_pinned_model_comes_as_soon_as_there_is_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loads, "PINNED_AGAIN_S", 0.05)
    load = Load(base=make_base_folder(), pin=True)
    async with running_engine():
        await client.load(load)
    async with running_engine(Short()) as engine:
        await until(lambda: [m["pinned"] for m in engine.stats()["models"]] == [True])
        await until(lambda: engine.stats()["loading"] == [])


async def test_unpinning_a_base_leaves_its_own_fine_tunes_pinned() -> None:
    base, own = make_base_folder(), make_full()
    async with running_engine():
        await client.load(Load(base=base, pin=True))
        await client.load(Load(base=base, adapter=own, pin=True))
        await client.load(Load(base=base, pin=False))
    async with running_engine() as engine:
        await until(lambda: len(engine.stats()["models"]) == 1)
        assert engine.stats()["models"][0]["base"] == "tiny+calendar@0.3.0"


async def test_what_is_being_embedded_is_finished_before_the_end() -> None:
    base = make_base_folder()
    async with running_engine(Stuck()) as engine:
        await client.load(Load(base=base))
        asked = asyncio.create_task(client.embed(Embed(base=base, texts=["x"] * 9)))
        await asyncio.sleep(0.1)
        engine.stop()
        assert len((await asked)["vectors"]) == 9


class Looping(FakeBackend):
    """A template that comes to no end for who asks for it."""

    def load(
        self, base: Path, adapter: Path | None = None, options: LoadOptions = LoadOptions()
    ) -> LoadedModel:
        model = super().load(base, adapter, options)
        assert isinstance(model, FakeModel)
        encode = model.encode

        def looping(
            messages: Sequence[Message],
            tools: Sequence[dict[str, Any]] | None = None,
            template: Mapping[str, Any] | None = None,
        ) -> list[int]:
            while messages[0]["content"] == "loop":
                pass
            return encode(messages, tools, template)

        model.encode = looping  # type: ignore[method-assign]
        return model


async def test_a_template_without_end_costs_its_own_request_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rendering, "LIMIT_S", 0.3)
    monkeypatch.setattr(rendering, "LOOK_EVERY_S", 0.05)
    base = make_base_folder()
    endless: list[Message] = [{"role": "user", "content": "loop"}]
    async with running_engine(Looping(tokens_per_second=100, reply_words=60)) as engine:
        beside = asyncio.create_task(text_of(ask(base, request_id="beside")))
        await until(lambda: engine.stats()["running"] == 1)
        with pytest.raises(HubError, match="did not finish") as caught:
            await text_of(ask(base, request_id="x").model_copy(update={"messages": endless}))
        assert caught.value.status == 422
        with pytest.raises(HubError, match="did not finish"):
            await client.count(Count(base=base, messages=endless))
        assert len((await beside).split()) == 60
        assert await text_of(ask(base, max_tokens=3))


class Failing(FakeBackend):
    """A device whose next step fails."""

    error: Exception | None = None

    def load(
        self, base: Path, adapter: Path | None = None, options: LoadOptions = LoadOptions()
    ) -> LoadedModel:
        model = super().load(base, adapter, options)
        assert isinstance(model, FakeModel)
        step = model.step

        def failing_step() -> list[Delta]:
            error, self.error = self.error, None
            if error is not None:
                raise error
            return step()

        model.step = failing_step  # type: ignore[method-assign]
        return model


@pytest.mark.parametrize(
    ("error", "code"),
    [(OutOfMemory("no memory"), "unavailable"), (GPUInterrupted("asleep"), "gpu_interrupted")],
)
async def test_a_device_that_fails_once_costs_its_requests_and_no_more(
    error: Exception, code: str
) -> None:
    base, backend = make_base_folder(), Failing()
    async with running_engine(backend) as engine:
        backend.error = error
        with pytest.raises(HubError, match=str(error)) as caught:
            await text_of(ask(base))
        assert (caught.value.code, caught.value.status) == (code, 503)
        assert await text_of(ask(base))
        assert engine.stats()["running"] == 0
