"""What is in memory and what has to go: budget, prefixes, idling, pins, models of their own."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

from backends.base import BackendError, Delta, LoadOptions, Sampling
from backends.fake import FakeBackend, generation
from backends.fake.generation import BYTES_PER_TOKEN
from inference.engine import batches, thread
from inference.engine.embedding import next_texts
from inference.engine.memory import neighbours, residents
from inference.engine.requests.places import place
from inference.gateway import client
from inference.protocol import Done, Embed, Folder, Generate, Load, Unload
from registry.errors import HubError, NotFound, Unavailable
from registry.storage import artifacts, paths
from tests.inference.builders import make_adapter, make_adapter_folder, make_base_folder
from tests.inference.engines import ask, running_engine, text_of, until

pytestmark = pytest.mark.any_database


def make_full(version: str = "0.3.0", kind: str = "full") -> Folder:
    staging = make_adapter(b"all weights")
    (staging / "adapter_config.json").write_text(json.dumps({"fine_tune_type": kind}))
    target = paths.version_dir("calendar", version)
    manifest = artifacts.publish(staging, target)
    return Folder(path=paths.relative(target), manifest_sha256=manifest.sha256)


def weights(name: str) -> int:
    return sum(f.stat().st_size for f in paths.base_dir(name).glob("*.safetensors"))


def long_prompt(base: Folder, name: str, words: int, max_tokens: int = 8) -> Generate:
    turns = [{"role": "user", "content": f"{name} " * words}]
    update = {"messages": turns, "sampling": Sampling(max_tokens=max_tokens)}
    return ask(base, request_id=name).model_copy(update=update)


@pytest.mark.parametrize("kind", ["full", "dora"])
async def test_a_fine_tune_that_shares_no_base_is_a_model_of_its_own(kind: str) -> None:
    base, own, lora = make_base_folder(), make_full(kind=kind), make_adapter_folder()
    async with running_engine() as engine:
        texts = [await text_of(ask(base, adapter)) for adapter in (None, own, lora)]
        names = [model["base"] for model in engine.stats()["models"]]
    assert len(set(texts)) == 3
    assert names == ["tiny", "tiny+calendar@0.3.0"]


async def test_a_model_of_its_own_is_unloaded_alone() -> None:
    base, own = make_base_folder(), make_full()
    async with running_engine() as engine:
        await client.load(Load(base=base))
        await client.load(Load(base=base, adapter=own))
        assert await client.unload(Unload(base=base, adapter=own)) == ["tiny+calendar@0.3.0"]
        assert [model["base"] for model in engine.stats()["models"]] == ["tiny"]


async def test_gently_a_base_goes_alone_and_what_is_pinned_stays() -> None:
    base, own = make_base_folder(), make_full()
    async with running_engine() as engine:
        await client.load(Load(base=base))
        await client.load(Load(base=base, adapter=own, pin=True))
        assert await client.unload(Unload(base=base, adapter=own, gently=True)) == []
        assert await client.unload(Unload(base=base, gently=True)) == ["tiny"]
        assert [(m["base"], m["pinned"]) for m in engine.stats()["models"]] == [
            ("tiny+calendar@0.3.0", True)
        ]
    async with running_engine() as engine:
        await until(lambda: len(engine.stats()["models"]) == 1)


async def test_prefixes_go_before_models() -> None:
    first, second = make_base_folder("first"), make_base_folder("second")
    budget = weights("first") + weights("second") + 60_000
    async with running_engine(budget_bytes=budget, cache_bytes=2**20) as engine:
        await client.load(Load(base=second))
        for word in ("apple", "berry", "cherry", "date"):
            await text_of(long_prompt(first, word, 400))
            assert engine.stats()["models_bytes"] <= budget
        stats = engine.stats()
    assert 0 < stats["cache_bytes"] < 4 * 400 * 64
    assert stats["evictions"] == 0
    assert [model["base"] for model in stats["models"]] == ["second", "first"]


async def test_what_grows_beyond_the_budget_is_refused_and_the_engine_lives() -> None:
    base = make_base_folder()
    async with running_engine(budget_bytes=weights("tiny") + 20_000) as engine:
        with pytest.raises(Unavailable, match="does not fit into the memory budget") as caught:
            await text_of(long_prompt(base, "apple", 1500))
        assert caught.value.retry_after > 0
        assert await text_of(ask(base, max_tokens=3))
        assert engine.stats()["models_bytes"] <= engine.stats()["budget_bytes"]


async def test_an_answer_whose_length_nobody_chose_is_cut_where_memory_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generation, "BYTES_PER_TOKEN", 4000)
    monkeypatch.setattr(batches, "_MEMORY_EVERY_S", 0)
    monkeypatch.setattr(residents, "SOON", 8)
    base = make_base_folder()
    backend = FakeBackend(reply_words=1900, tokens_per_second=300)
    async with running_engine(backend, budget_bytes=weights("tiny") + 600_000) as engine:
        update = {"cut_late": True, "sampling": Sampling(max_tokens=None)}
        events = [event async for event in client.generate(ask(base).model_copy(update=update))]
        assert engine.stats()["running"] == 0
    done = events[-1]
    assert isinstance(done, Done)
    assert done.finish_reason == "length"
    assert 100 < done.completion_tokens < 1500


@pytest.mark.slow
async def test_a_request_that_fits_only_alone_waits_for_its_turn() -> None:
    base = make_base_folder()
    one = BYTES_PER_TOKEN * 600
    backend = FakeBackend(tokens_per_second=50, reply_words=150)
    async with running_engine(backend, budget_bytes=weights("tiny") + one) as engine:
        requests = [long_prompt(base, name, 400, 100) for name in ("apple", "berry")]
        tasks = [asyncio.create_task(text_of(request)) for request in requests]
        await until(lambda: (engine.stats()["running"], engine.stats()["waiting"]) == (1, 1))
        assert all(await asyncio.gather(*tasks))


async def test_idle_models_leave_and_pinned_ones_stay() -> None:
    first, second = make_base_folder("first"), make_base_folder("second")
    async with running_engine(idle_s=0.2) as engine:
        await client.load(Load(base=first, pin=True))
        await client.load(Load(base=second))
        await until(lambda: [m["base"] for m in engine.stats()["models"]] == ["first"], timeout=5)
        await asyncio.sleep(0.3)
        assert [(m["base"], m["pinned"]) for m in engine.stats()["models"]] == [("first", True)]
        await client.load(Load(base=first, pin=False))
        await until(lambda: engine.stats()["models"] == [], timeout=5)
        assert engine.stats()["evictions"] == 2


async def test_a_pinned_model_does_not_make_room() -> None:
    pinned, other = make_base_folder("pinned"), make_base_folder("other")
    async with running_engine(budget_bytes=weights("pinned") + 100) as engine:
        await client.load(Load(base=pinned, pin=True))
        assert await client.unload(Unload()) == []
        with pytest.raises(Unavailable, match="pinned"):
            await client.load(Load(base=other))
        assert await client.unload(Unload(base=pinned)) == ["pinned"]
        await client.load(Load(base=other))
        assert [m["base"] for m in engine.stats()["models"]] == ["other"]


async def test_a_restarted_engine_loads_what_was_pinned() -> None:
    base, own = make_base_folder(), make_full()
    async with running_engine():
        await client.load(Load(base=base, pin=True))
        await client.load(Load(base=base, adapter=own, pin=True))
    async with running_engine() as engine:
        await until(lambda: len(engine.stats()["models"]) == 2)
        assert all(model["pinned"] for model in engine.stats()["models"])
        await client.unload(Unload(base=base, adapter=own))
    async with running_engine() as engine:
        await until(lambda: [m["base"] for m in engine.stats()["models"]] == ["tiny"])


async def test_pins_that_cannot_be_read_do_not_stop_the_engine() -> None:
    (paths.run_dir() / "pinned.json").write_text("{")
    async with running_engine() as engine:
        assert engine.stats()["models"] == []


async def test_loading_goes_on_without_its_client_and_is_told() -> None:
    base = make_base_folder()
    async with running_engine() as engine:
        assert await client.load(Load(base=base, wait=False)) == {"loading": "base/tiny"}
        await until(lambda: [m["base"] for m in engine.stats()["models"]] == ["tiny"])
        await until(lambda: engine.stats()["loading"] == [])


async def test_a_load_that_fails_is_told_for_a_while() -> None:
    nobody = Folder(path="base/nobody")
    async with running_engine() as engine:
        await client.load(Load(base=nobody, wait=False))
        await until(lambda: engine.stats()["loading"][0]["state"] == "failed")
        assert "missing from storage" in engine.stats()["loading"][0]["error"]
        with pytest.raises(NotFound):
            await client.load(Load(base=nobody))
        assert len(engine.stats()["loading"]) == 1


class Full(FakeBackend):
    """A device on which other arrays of the process lie, too."""

    held = 0

    def memory_bytes(self) -> int | None:
        return self.held


async def test_the_budget_is_about_what_the_device_holds() -> None:
    base, backend = make_base_folder(), Full()
    async with running_engine(backend, budget_bytes=2**20) as engine:
        assert await text_of(ask(base, max_tokens=3))
        backend.held = 2**21
        assert engine.stats()["models_bytes"] == 2**21
        with pytest.raises(HubError) as caught:
            await text_of(ask(base, max_tokens=3))
        assert caught.value.status == 503
        backend.held = 0
        assert await text_of(ask(base, max_tokens=3))


class Keeping(FakeBackend):
    """A device that keeps freed buffers until it is asked to give them back."""

    kept = 0

    def memory_bytes(self) -> int | None:
        return self.kept

    def unused_bytes(self) -> int:
        return self.kept

    def free_unused(self) -> None:
        self.kept = 0


async def test_an_engine_without_work_gives_freed_buffers_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base, backend = make_base_folder(), Keeping()
    async with running_engine(backend) as engine:
        assert await text_of(ask(base, max_tokens=3))
        backend.kept = 2**21
        held = engine.stats()["reclaimable_bytes"]
        monkeypatch.setattr(residents, "BUFFERS_S", 0.0)
        assert await text_of(ask(base, max_tokens=3))
        await until(lambda: backend.kept == 0)
        assert held - engine.stats()["reclaimable_bytes"] == 2**21
        assert len(engine.stats()["models"]) == 1


async def test_the_buffers_that_may_be_kept_are_no_room_for_a_context() -> None:
    """They are given back for a row, and its steps fill them again."""
    base, kept = make_base_folder(), 2**20
    budget = weights("tiny") + kept + 10 * BYTES_PER_TOKEN
    options = LoadOptions(unused_bytes=kept)
    async with running_engine(budget_bytes=budget, options=options) as engine:
        with pytest.raises(Unavailable, match="memory budget"):
            await text_of(ask(base, max_tokens=100))
        assert engine.stats()["models_bytes"] <= budget - kept


async def test_what_a_running_row_was_promised_is_not_filled_with_prefixes() -> None:
    base, backend = make_base_folder(), FakeBackend(tokens_per_second=60, reply_words=700)
    promised = BYTES_PER_TOKEN * 1120
    budget = weights("tiny") + promised
    async with running_engine(backend, budget_bytes=budget, cache_bytes=2**20) as engine:
        answer = asyncio.create_task(text_of(long_prompt(base, "apple", 400, 700)))
        await until(
            lambda: engine.stats()["tokens_generated"] > 100
        )  # memory is measured once a second
        stats = engine.stats()
        held = stats["models_bytes"] + BYTES_PER_TOKEN * (700 - stats["tokens_generated"])
        answer.cancel()
    assert held <= budget


class Noted(generation.FakeModel):
    """Notes what all models that are in memory hold after each step."""

    alive: ClassVar[list[generation.FakeModel]]
    held: ClassVar[list[int]]

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.alive.append(self)

    def step(self) -> list[Delta]:
        deltas = super().step()
        self.held.append(sum(model.memory.total for model in self.alive))
        return deltas

    def close(self) -> None:
        super().close()
        self.alive.remove(self)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the fake's models hold together after each step."""
    Noted.alive, Noted.held = [], []
    monkeypatch.setattr(generation, "FakeModel", Noted)
    return Noted.held


async def test_prefixes_never_take_what_rows_were_promised(
    held: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even until the memory is looked at again: each prompt is read in a step, and kept with it."""
    monkeypatch.setattr(batches, "_MEMORY_EVERY_S", 10.0**9)
    names = ("one", "two")
    bases = {name: make_base_folder(name) for name in names}
    asked = [(name, f"{name} {turn}") for turn in range(4) for name in names]
    promised = len(asked) * BYTES_PER_TOKEN * 480
    budget = sum(map(weights, names)) + promised + BYTES_PER_TOKEN * 200
    slow = FakeBackend(tokens_per_second=200)
    async with running_engine(slow, budget_bytes=budget, cache_bytes=2**20) as engine:
        rows = [text_of(long_prompt(bases[base], name, 400, 40)) for base, name in asked]
        assert all(await asyncio.gather(*rows))
        assert engine.stats()["cache_bytes"] > 0
    assert budget - promised < max(held) <= budget


async def test_freed_buffers_count_and_go_before_a_model_does() -> None:
    one, two, backend = make_base_folder("one"), make_base_folder("two"), Keeping()
    async with running_engine(backend, budget_bytes=2**20) as engine:
        assert await text_of(ask(one, max_tokens=3))
        backend.kept = 2**21
        assert engine.stats()["models_bytes"] == 2**21
        assert await text_of(ask(two, max_tokens=3))
        assert len(engine.stats()["models"]) == 2
        assert (backend.kept, engine.stats()["evictions"]) == (0, 0)


def test_the_kind_of_fine_tune_decides_whose_memory_it_is(tmp_path: Path) -> None:
    for kind, own in (("lora", False), ("dora", True), ("full", True)):
        adapter = tmp_path / kind
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text(json.dumps({"fine_tune_type": kind}))
        assert place(tmp_path, adapter).own is own
    assert place(tmp_path, None).key == (tmp_path, None)


class Job:
    """A training job that takes so much of the budget."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes

    def taken(self) -> neighbours.Taken:
        return (
            neighbours.Taken(self.nbytes, "training job 7") if self.nbytes else neighbours.Taken()
        )


async def test_a_model_that_does_not_fit_beside_a_job_is_refused_with_the_reason() -> None:
    base, job = make_base_folder(), Job(0)
    neighbours.register(job)
    async with running_engine(budget_bytes=weights("tiny") + 100_000) as engine:
        job.nbytes = 100_001
        for attempt in (text_of(ask(base)), client.load(Load(base=base))):
            with pytest.raises(HubError, match="training job 7 takes") as caught:
                await attempt
            assert caught.value.status == 503
        assert engine.stats()["models"] == []
        job.nbytes = 0
        assert await text_of(ask(base, max_tokens=3))


async def test_idle_models_leave_when_there_is_no_room_for_two_beside_a_job() -> None:
    one, two = make_base_folder("one"), make_base_folder("two")
    neighbours.register(Job(1))
    async with running_engine(budget_bytes=weights("one") + weights("two")) as engine:
        for base in (one, two):
            await client.load(Load(base=base))
        assert [model["base"] for model in engine.stats()["models"]] == ["two"]


async def test_an_answer_that_began_before_a_job_is_not_cut_off_for_it() -> None:
    base, job = make_base_folder(), Job(0)
    neighbours.register(job)
    budget = weights("tiny") + 100_000
    async with running_engine(FakeBackend(tokens_per_second=60), budget_bytes=budget) as engine:
        answer = asyncio.create_task(text_of(ask(base, max_tokens=60)))
        await until(lambda: engine.stats()["tokens_generated"] > 3)
        job.nbytes = budget
        with pytest.raises(HubError, match="training job 7"):
            await text_of(ask(make_base_folder("other"), request_id="other"))
        assert engine.stats()["taken_bytes"] == budget
        assert await answer


async def test_a_model_in_memory_answers_while_nobody_knows_what_a_job_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(thread, "_LOOK_EVERY_S", 0.0)
    base, known = make_base_folder(), threading.Event()

    class Slow(Job):
        def taken(self) -> neighbours.Taken:
            assert known.wait(10)
            return super().taken()

    async with running_engine() as engine:
        await client.load(Load(base=base))
        neighbours.register(Slow(77))
        assert await text_of(ask(base, max_tokens=3))
        known.set()
        await until(lambda: engine.stats()["taken_bytes"] == 77)


async def test_twice_what_fits_is_served_within_the_budget(held: list[int]) -> None:
    """Four models with two contexts each, where there is room for half of them, and prefixes are kept."""

    async def answer(base: Folder, name: str) -> str:
        while True:
            try:
                return await text_of(long_prompt(base, name, 150, 20))
            except Unavailable:  # says after how long to come again
                await asyncio.sleep(0.02)

    names = ("one", "two", "three", "four")
    bases = {name: make_base_folder(name) for name in names}
    asked = sum(map(weights, names)) + 8 * BYTES_PER_TOKEN * 480
    slow = FakeBackend(tokens_per_second=200)
    async with running_engine(slow, budget_bytes=asked // 2, cache_bytes=2**20):
        turns = [(name, f"{name} {turn}") for turn in range(2) for name in names]
        texts = await asyncio.gather(*(answer(bases[base], name) for base, name in turns))
    assert all(texts)
    assert asked // 4 < max(held) <= asked // 2


async def test_texts_are_read_one_by_one_where_there_is_no_memory_for_more() -> None:
    base = make_base_folder()
    texts = ["apple " * 90, "berry " * 90]
    async with running_engine(budget_bytes=weights("tiny") + 100 * BYTES_PER_TOKEN):
        whole = await client.embed(Embed(base=base, texts=texts))
        assert len(whole["vectors"]) == 2
        assert (
            whole["vectors"][1]
            == (await client.embed(Embed(base=base, texts=texts[1:])))["vectors"][0]
        )
        with pytest.raises(
            Unavailable, match=r"Reading these texts needs .* or send shorter"
        ) as caught:
            await client.embed(Embed(base=base, texts=["apple " * 110]))
        assert caught.value.retry_after > 0


async def test_labels_wait_for_the_memory_that_weighing_them_takes() -> None:
    base = make_base_folder()
    asked = long_prompt(base, "apple", 100).model_copy(update={"labels": ["good", "bad"]})
    async with running_engine(budget_bytes=weights("tiny") + 500 * BYTES_PER_TOKEN):
        assert await text_of(asked) in ("good", "bad")
    async with running_engine(budget_bytes=weights("tiny") + 100 * BYTES_PER_TOKEN):
        with pytest.raises(Unavailable, match="beside the model"):
            await text_of(asked)


def test_texts_are_read_together_where_no_stream_waits_for_them() -> None:
    short, long = ["apple"] * 100, ["apple " * 500] * 100
    assert len(next_texts(short, undisturbed=False)) == 4
    assert len(next_texts(short, undisturbed=True)) == 32
    assert len(next_texts(long, undisturbed=True)) == 4
    assert next_texts(["apple"], undisturbed=True) == ["apple"]


async def test_a_model_at_rest_prepares_what_later_requests_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(residents, "SETTLED_S", 0.05)
    settled: list[str] = []

    def settle(model: generation.FakeModel) -> None:
        settled.append(model.name)
        if len(settled) == 2:
            raise BackendError("The device is gone.")

    monkeypatch.setattr(generation.FakeModel, "settle", settle)
    base = make_base_folder()
    async with running_engine() as engine:
        await text_of(ask(base))
        await until(lambda: len(settled) == 1)
        await text_of(ask(base))  # once is enough
        assert len(engine.stats()["models"]) == 1
        await client.unload(Unload(base=base))
        await client.load(Load(base=base))
        await until(lambda: not engine.stats()["models"])  # one that fails is not kept
        assert await text_of(ask(base))
