"""The page of models in memory: what is there, what is on its way, what fits, and by hand."""

import asyncio
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from backends.base import LoadedModel, LoadOptions
from backends.fake import FakeBackend
from inference.engine.memory import neighbours
from inference.engine.requests.places import place
from registry.storage import paths
from tests.inference.builders import make_base, make_version
from tests.inference.engines import running_engine, until

pytestmark = pytest.mark.usefixtures("db_in_threads")
PAGE = "/system/models/"


class Slow(FakeBackend):
    """Loads when `may_load` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.may_load = threading.Event()

    def load(
        self, base: Path, adapter: Path | None = None, options: LoadOptions = LoadOptions()
    ) -> LoadedModel:
        assert self.may_load.wait(60)
        return super().load(base, adapter, options)


async def page(part: str = "", **query: str) -> str:
    headers = {"hx-request": "true", "hx-target": part} if part else {}
    answer = await AsyncClient().get(PAGE, query, headers=headers)
    assert answer.status_code == 200
    assert ("<html" in answer.content.decode()) is not bool(part)
    return " ".join(answer.content.decode().split())


async def do(what: str, **fields: str) -> str:
    headers = {"hx-request": "true", "hx-target": "live"}
    answer = await AsyncClient().post(f"{PAGE}{what}/", fields, headers=headers)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


async def post(path: str, **body: Any) -> Any:
    return await AsyncClient().post(path, body, content_type="application/json")


async def test_a_model_is_loaded_and_shown_on_its_way_and_there() -> None:
    await sync_to_async(lambda: make_version(make_base()))()
    backend = Slow()
    async with running_engine(backend, idle_s=60) as engine:
        begun = await do("load", model="calendar", pinned="1")
        assert "Checking files" in begun or "Loading" in begun
        await until(lambda: engine.stats()["loading"][0]["state"] == "loading")
        assert "<progress" in await page("live")
        backend.may_load.set()
        await until(lambda: len(engine.stats()["models"]) == 1)
        there = await page()
        assert "base:tiny" in there
        assert "with calendar@0.1.0" in there
        assert "until unpinned" in there
        unpinned = await do("pin", model="base:tiny", pinned="0")
        assert re.search(r"for [\w ]+ more", unpinned)
        assert "No models in memory" in await do("unload", model="base:tiny")


async def test_without_htmx_the_page_is_shown_again_with_what_was_wrong() -> None:
    client = AsyncClient()
    async with running_engine():
        answer = await client.post(f"{PAGE}load/", {"model": "nobody"})
        assert (answer.status_code, answer["Location"]) == (302, PAGE)
        shown = await client.get(PAGE)
    assert "There is no model &#x27;nobody&#x27;" in shown.content.decode()


async def test_what_answers_is_not_unloaded_and_the_page_says_so() -> None:
    await sync_to_async(make_base)()
    async with running_engine(FakeBackend(tokens_per_second=50, reply_words=500)) as engine:
        asking = asyncio.create_task(post("/api/inference", model="base:tiny", prompt="x"))
        await until(lambda: engine.stats()["running"] == 1)
        refused = await do("unload", model="base:tiny")
        assert "tiny is answering requests" in refused
        assert "while serving requests" in refused
        assert re.search(r'id="problem" hx-swap-oob="true">\s*<p', refused)
        assert "problem" not in await page("live")  # so that a poll does not take it away
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_what_is_idle_is_unloaded_at_once_and_what_is_pinned_stays() -> None:
    await sync_to_async(lambda: (make_base("one"), make_base("two")))()
    async with running_engine() as engine:
        for name, pinned in (("base:one", True), ("base:two", None)):
            await post("/api/inference/models", model=name, pinned=pinned, wait=True)
        assert "base:two" not in await do("unload-idle")
        assert [model["base"] for model in engine.stats()["models"]] == ["one"]
        gone = await AsyncClient().delete("/api/inference/models")
        assert gone.json() == {"unloaded": []}


async def test_whether_a_model_would_fit_is_told_before_it_is_loaded() -> None:
    sizes = {}
    for name in ("one", "two"):
        await sync_to_async(make_base)(name)
        sizes[name] = place(paths.base_dir(name), None).weights_bytes
    address = "/api/inference/memory"

    async def verdict(name: str) -> str:
        told = (await AsyncClient().get(address, {"model": f"base:{name}"})).json()
        assert told["free_bytes"] == told["budget_bytes"] - told["held_bytes"]
        return str(told["fit"]["verdict"])

    async with running_engine(budget_bytes=sizes["one"] + 100):
        assert await verdict("one") == "fits"
        assert "are free" in await page("fit", model="base:one")
        await post("/api/inference/models", model="base:one", wait=True)
        assert (await verdict("one"), await verdict("two")) == ("loaded", "leave")
        assert "idle models will be unloaded" in await page("fit", model="base:two")
        await post("/api/inference/models", model="base:one", pinned=True, wait=True)
        assert await verdict("two") == "busy"
        assert "Unload or unpin something first" in await page("fit", model="base:two")
    async with running_engine(budget_bytes=100):
        assert await verdict("two") == "never"
        assert "HUB_MEMORY_BUDGET_GB" in await page("fit", model="base:two")


async def test_the_page_knows_what_to_say_without_an_engine() -> None:
    assert "The engine is not responding" in await page()
    assert "No models to load yet" in await page()


async def test_what_training_takes_is_not_free() -> None:
    class Job:
        def taken(self) -> neighbours.Taken:
            return neighbours.Taken(1_000, "training job 7")

    neighbours.register(Job())
    await sync_to_async(make_base)("one")
    size = place(paths.base_dir("one"), None).weights_bytes
    async with running_engine(budget_bytes=size + 100) as engine:
        await page()
        await until(lambda: engine.stats()["taken_bytes"] == 1_000)
        told = (await AsyncClient().get("/api/inference/memory", {"model": "base:one"})).json()
        assert (told["free_bytes"], told["taken_by"]) == (size + 100 - 1_000, "training job 7")
        assert told["fit"]["verdict"] == "busy"
        assert "Training job 7" in await page("live")
        assert "pause it" in await page("fit", model="base:one")


async def test_a_fine_tune_of_its_own_takes_nobody_along() -> None:
    def make() -> None:
        version = make_version(make_base())
        config = paths.absolute(version.artifact_path) / "adapter_config.json"
        config.write_text(json.dumps({"fine_tune_type": "dora"}))

    await sync_to_async(make)()
    async with running_engine() as engine:
        await post("/api/inference/models", model="base:tiny", pinned=True, wait=True)
        await do("unload", model="calendar")  # it is not in memory
        [model] = engine.stats()["models"]
        assert (model["base"], model["pinned"]) == ("tiny", True)
