"""The engine over its socket, inside the test process."""

import asyncio
import os
import stat
from contextlib import aclosing
from typing import Any, NoReturn

import pytest

from backends.base import BackendError, Delta, Guesses, LoadedModel
from backends.fake import FakeBackend
from backends.fake.generation import FakeModel
from backends.mac import power
from inference.engine.listening import listening
from inference.engine.outbound import Outbound
from inference.engine.requests import rendering
from inference.gateway import client
from inference.protocol import Chunk, Done, Folder, Load, Started, Unload, encode_request
from registry.errors import (
    Conflict,
    Damaged,
    HubError,
    Invalid,
    NotFound,
    TooManyRequests,
    Unavailable,
)
from registry.storage import paths
from tests.inference.builders import make_adapter_folder, make_base_folder
from tests.inference.engines import ask, running_engine, text_of, until

pytestmark = pytest.mark.any_database


async def test_events_come_in_order_and_are_timed() -> None:
    base = make_base_folder()
    async with running_engine(FakeBackend(tokens_per_second=200)):
        events = [event async for event in client.generate(ask(base))]
    started, *chunks, done = events
    assert isinstance(started, Started)
    assert started.prompt_tokens > 0
    assert all(isinstance(chunk, Chunk) and chunk.text for chunk in chunks)
    assert isinstance(done, Done)
    assert done.finish_reason == "stop"
    assert 0 <= done.queue_ms <= done.first_token_ms <= done.total_ms
    assert done.completion_tokens >= len(chunks)
    decoding_s = (done.total_ms - done.first_token_ms) / 1000
    assert done.tokens_per_second == pytest.approx((done.completion_tokens - 1) / decoding_s, 0.05)
    assert done.tokens_per_second < 200 * 1.3  # how far below depends on the machine


class Importing(FakeBackend):
    imported = False

    def import_serving(self) -> None:
        self.imported = True


async def test_what_a_load_needs_is_imported_before_anybody_asks() -> None:
    backend = Importing()
    async with running_engine(backend):
        await until(lambda: backend.imported)


async def test_an_adapter_changes_the_answer() -> None:
    base = make_base_folder()
    adapters = [None, make_adapter_folder(b"one"), make_adapter_folder(b"two", "0.2.0")]
    async with running_engine():
        texts = {await text_of(ask(base, adapter)) for adapter in adapters}
    assert len(texts) == 3


async def test_two_base_models_answer_at_once() -> None:
    first, second = make_base_folder("first"), make_base_folder("second")
    async with running_engine(FakeBackend(tokens_per_second=200)) as engine:
        texts = await asyncio.gather(
            text_of(ask(first, request_id="a")), text_of(ask(second, request_id="b"))
        )
        assert [model["base"] for model in engine.stats()["models"]] == ["first", "second"]
    assert all(texts)


async def test_closing_the_connection_frees_the_row() -> None:
    base = make_base_folder()
    async with running_engine(FakeBackend(tokens_per_second=50, reply_words=500)) as engine:
        events = client.generate(ask(base))
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Chunk):
                    break
            assert engine.stats()["running"] == 1
        await until(lambda: engine.stats()["running"] == 0, timeout=0.1)


async def test_a_request_that_waits_can_be_cancelled() -> None:
    base = make_base_folder()
    backend = FakeBackend(tokens_per_second=50, reply_words=500)
    async with running_engine(backend, max_rows=1) as engine:
        tasks = [asyncio.create_task(text_of(ask(base, request_id=name))) for name in "ab"]
        await until(lambda: (engine.stats()["running"], engine.stats()["waiting"]) == (1, 1))
        tasks[1].cancel()
        await until(lambda: engine.stats()["waiting"] == 0)
        assert engine.stats()["running"] == 1
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: engine.stats()["running"] == 0)


async def test_a_full_queue_refuses() -> None:
    base = make_base_folder()
    backend = FakeBackend(tokens_per_second=50, reply_words=500)
    async with running_engine(backend, max_rows=1, max_queue=1) as engine:
        tasks = [asyncio.create_task(text_of(ask(base, request_id=name))) for name in "ab"]
        await until(lambda: (engine.stats()["running"], engine.stats()["waiting"]) == (1, 1))
        with pytest.raises(TooManyRequests):
            await text_of(ask(base, request_id="c"))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_answer_does_not_depend_on_its_neighbours() -> None:
    base = make_base_folder()
    async with running_engine():
        alone = await text_of(ask(base))
        together = await asyncio.gather(
            *(text_of(ask(base, request_id=str(n), max_tokens=10 + n)) for n in range(8))
        )
    assert all(alone.startswith(text) for text in together)


@pytest.mark.parametrize("path", ["../elsewhere", "/etc", ""])
async def test_a_path_outside_storage_is_refused(path: str) -> None:
    async with running_engine():
        with pytest.raises(Invalid, match="storage"):
            await text_of(ask(Folder(path=path)))


async def test_a_missing_folder_is_named() -> None:
    async with running_engine():
        with pytest.raises(NotFound, match="base/nobody"):
            await text_of(ask(Folder(path="base/nobody")))


async def test_a_damaged_adapter_is_not_served() -> None:
    base, adapter = make_base_folder(), make_adapter_folder()
    weights = paths.absolute(adapter.path) / "adapters.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"two")
    async with running_engine():
        with pytest.raises(Damaged, match=r"adapters\.safetensors"):
            await text_of(ask(base, adapter))
        assert await text_of(ask(base))


async def test_another_manifest_than_the_recorded_one_is_not_served() -> None:
    adapter = make_adapter_folder()
    swapped = Folder(path=adapter.path, manifest_sha256="0" * 64)
    async with running_engine():
        with pytest.raises(Damaged, match="recorded"):
            await text_of(ask(make_base_folder(), swapped))


async def test_a_prompt_beyond_the_context_says_so() -> None:
    request = ask(make_base_folder())
    long = request.model_copy(update={"messages": [{"role": "user", "content": "word " * 3000}]})
    async with running_engine():
        with pytest.raises(HubError) as caught:
            await text_of(long)
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")


async def test_loading_ahead_and_unloading() -> None:
    base = make_base_folder()
    async with running_engine() as engine:
        await client.load(Load(base=base, adapter=make_adapter_folder()))
        assert [m["adapters"] for m in engine.stats()["models"]] == [1]
        assert engine.stats()["models_bytes"] > 0
        assert await client.unload(Unload(base=base)) == ["tiny"]
        assert engine.stats()["models"] == []


async def test_a_model_that_answers_is_not_unloaded() -> None:
    base = make_base_folder()
    async with running_engine(FakeBackend(tokens_per_second=50, reply_words=500)) as engine:
        task = asyncio.create_task(text_of(ask(base)))
        await until(lambda: engine.stats()["running"] == 1)
        with pytest.raises(Conflict):
            await client.unload(Unload(base=base))
        assert await client.unload(Unload()) == []
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_least_recently_used_model_makes_room() -> None:
    folders = {name: make_base_folder(name) for name in ("one", "two", "three")}
    size = sum(f.stat().st_size for f in paths.base_dir("one").glob("*.safetensors"))
    async with running_engine(budget_bytes=2 * size + 100) as engine:
        for name in ("one", "two", "one", "three"):
            await client.load(Load(base=folders[name]))
        assert {model["base"] for model in engine.stats()["models"]} == {"one", "three"}


async def test_a_model_beyond_the_budget_is_refused() -> None:
    async with running_engine(budget_bytes=10):
        with pytest.raises(Unavailable, match="HUB_MEMORY_BUDGET_GB"):
            await text_of(ask(make_base_folder()))


async def test_statistics_say_what_the_engine_is(charged: int) -> None:
    async with running_engine():
        await text_of(ask(make_base_folder()))
        stats = await client.aengine_stats()
    assert stats["pid"] == os.getpid()
    assert stats["device"]["backend"] == "fake"
    assert stats["tokens_generated"] > 0
    assert stats["requests"] == 1
    assert stats["memory_bytes"] == charged


async def test_tokens_without_a_step_of_their_own_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of all models together."""
    proposed = iter(range(0, 1000, 4))
    guesses = property(lambda _: Guesses(n := next(proposed), n // 2, n // 4))
    monkeypatch.setattr(FakeModel, "guesses", guesses)
    async with running_engine():
        before = await client.aengine_stats()
        for _ in range(2):
            await text_of(ask(make_base_folder()))
        stats = await client.aengine_stats()
    drafted, accepted, forced = (
        stats[name] - before[name]
        for name in ("drafted_tokens", "accepted_tokens", "forced_tokens")
    )
    assert drafted == 4 * (stats["steps"] - before["steps"]) > 0
    assert (accepted, forced) == (drafted // 2, drafted // 4)


async def test_tokens_that_come_at_once_have_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a grammar forces comes with the token before it: no time passes between them."""
    step = FakeModel.step

    def all_at_once(model: FakeModel) -> list[Delta]:
        deltas = step(model)
        while deltas and deltas[-1].finish_reason is None:
            deltas += step(model)
        return deltas

    monkeypatch.setattr(FakeModel, "step", all_at_once)
    async with running_engine():
        events = [event async for event in client.generate(ask(make_base_folder()))]
    done = events[-1]
    assert isinstance(done, Done)
    assert done.completion_tokens > 1
    assert done.tokens_per_second is None


async def test_statistics_for_synchronous_callers() -> None:
    async with running_engine():
        stats = await asyncio.to_thread(client.engine_stats)
    assert stats["running"] == 0


async def test_without_an_engine_everything_says_so() -> None:
    with pytest.raises(Unavailable, match="not running"):
        await text_of(ask(Folder(path="base/tiny")))
    with pytest.raises(Unavailable, match="not running"):
        client.engine_stats()


class Breaking(FakeBackend):
    """Loads models whose next step fails once, as a device error would."""

    broken = False

    def load(self, *args: Any) -> LoadedModel:
        model = super().load(*args)
        if not self.broken:
            self.broken = True

            def step() -> list[object]:
                raise RuntimeError("device lost")

            model.step = step  # type: ignore[assignment, method-assign]
        return model


async def test_a_failing_step_ends_its_rows_and_the_next_request_loads_anew() -> None:
    base = make_base_folder()
    async with running_engine(Breaking()):
        with pytest.raises(HubError, match="c-1") as caught:
            await text_of(ask(base))
        assert caught.value.code == "engine_failed"
        assert await text_of(ask(base))


class Homeless(FakeBackend):
    def device(self) -> NoReturn:
        raise BackendError("There is no device.")


async def test_an_engine_without_a_device_does_not_start() -> None:
    with pytest.raises(BackendError, match="no device"):
        async with running_engine(Homeless()):
            pass


async def test_nonsense_is_answered_with_an_error() -> None:
    async with running_engine():
        reader, writer = await asyncio.open_unix_connection(str(paths.engine_socket()))
        writer.write(b'{"op": "explode"}\n')
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
    assert b'"status": 400' in line


async def test_a_mac_stays_awake_while_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[bool | None] = []
    monkeypatch.setattr(rendering, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(power.Awake, "look", lambda awake, busy: looks.append(busy))
    monkeypatch.setattr(power.Awake, "release", lambda awake: looks.append(None))
    async with running_engine(FakeBackend(tokens_per_second=100, reply_words=20)):
        await until(lambda: looks)
        assert not any(looks)
        await text_of(ask(make_base_folder()))
        assert any(looks)
    assert looks[-1] is None


async def test_only_the_owner_may_connect() -> None:
    async with running_engine():
        mode = stat.S_IMODE(paths.engine_socket().stat().st_mode)
    assert mode == 0o600


async def test_a_stale_socket_is_replaced() -> None:
    paths.engine_socket().write_text("left behind")
    async with running_engine():
        assert await client.ping() == os.getpid()
    assert not paths.engine_socket().exists()


def test_a_second_listener_is_refused() -> None:
    with (
        listening(paths.engine_socket()),
        pytest.raises(Conflict, match="Another engine"),
        listening(paths.engine_socket()),
    ):
        pass


async def test_a_reader_that_does_not_read_is_cut_off() -> None:
    base = make_base_folder()
    backend = FakeBackend(tokens_per_second=5000, reply_words=1900)
    async with running_engine(backend) as engine:
        reader, writer = await asyncio.open_unix_connection(
            str(paths.engine_socket()),
            limit=64,  # bytes; at twice as many it leaves the rest with the kernel
        )
        writer.write(encode_request(ask(base, max_tokens=2000)))
        await until(lambda: engine.stats()["running"] == 1)
        await until(lambda: engine.stats()["running"] == 0)
        assert engine.stats()["tokens_generated"] < 1900
        assert b"slow_reader" in await reader.read()
        writer.close()


class Reader:
    """The writer, and its transport, of one who has `behind` bytes still to read."""

    def __init__(self, behind: int) -> None:
        self.behind = behind
        self.transport, self.written = self, list[bytes]()

    def get_write_buffer_size(self) -> int:
        return self.behind

    def write(self, data: bytes) -> None:
        self.written.append(data)


async def test_what_a_reader_takes_is_written_without_a_task_for_each_token() -> None:
    reader = Reader(behind=0)
    outbound = Outbound(reader)  # type: ignore[arg-type]
    for _ in range(3):
        outbound.put(Chunk("a"))
    assert len(reader.written) == 3
    reader.behind = 1
    outbound.put(Chunk("b"))
    reader.behind = 0
    outbound.put(Chunk("c"))  # waits for the one before it
    assert len(reader.written) == 3


async def test_events_beyond_the_buffer_are_an_overflow() -> None:
    outbound = Outbound(Reader(behind=1), limit=2)  # type: ignore[arg-type]
    for _ in range(2):
        outbound.put(Chunk("a"))
    assert not outbound.overflow.is_set()
    outbound.put(Chunk("a"))
    assert outbound.overflow.is_set()


async def test_stopping_refuses_new_requests_and_finishes_what_runs() -> None:
    base = make_base_folder()
    async with running_engine(FakeBackend(tokens_per_second=100, reply_words=30)) as engine:
        running = asyncio.create_task(text_of(ask(base)))
        await until(lambda: engine.stats()["running"] == 1)
        engine.stop()
        await until(lambda: engine.stats()["stopping"])
        with pytest.raises(Unavailable):
            await text_of(ask(base, request_id="two"))
        assert len((await running).split()) == 30
