"""Models in memory over the API: named as they are asked for, loaded and unloaded by hand."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from backends.fake import FakeBackend
from tests.inference.builders import make_base, make_version
from tests.inference.engines import running_engine, until

pytestmark = pytest.mark.usefixtures("db_in_threads")
ADDRESS = "/api/inference/models"


async def post(path: str, **body: Any) -> Any:
    return await AsyncClient().post(path, body, content_type="application/json")


async def test_a_model_is_loaded_pinned_listed_and_unloaded() -> None:
    await sync_to_async(lambda: make_version(make_base()))()
    client = AsyncClient()
    async with running_engine():
        answer = await post(ADDRESS, model="calendar", pinned=True, wait=True)
        assert answer.status_code == 200
        [loaded] = (await client.get(ADDRESS)).json()
        assert (loaded["name"], loaded["state"]) == ("base:tiny", "ready")
        assert (loaded["pinned"], loaded["adapters"]) == (True, 1)
        assert loaded["memory_bytes"] > 0
        gone = await client.delete(f"{ADDRESS}/calendar@0.1.0")
        assert gone.json() == {"unloaded": ["tiny"]}
        assert (await client.get(ADDRESS)).json() == []


async def test_loading_answers_at_once_and_goes_on() -> None:
    await sync_to_async(make_base)()
    async with running_engine() as engine:
        assert (await post(ADDRESS, model="base:tiny")).status_code == 202
        await until(lambda: len(engine.stats()["models"]) == 1)


async def test_an_unknown_model_is_not_found_and_no_engine_is_503() -> None:
    await sync_to_async(make_base)()
    assert (await post(ADDRESS, model="nobody")).status_code == 404
    absent = await post(ADDRESS, model="base:tiny")
    assert absent.status_code == 503
    assert int(absent["Retry-After"]) > 0


async def test_a_deadline_is_a_504_and_is_logged_with_its_tokens() -> None:
    from inference.models import InferenceRequest

    await sync_to_async(make_base)()
    async with running_engine(FakeBackend(tokens_per_second=50, reply_words=500)):
        late = await post("/api/inference", model="base:tiny", prompt="x", deadline_s=0.3)
    assert late.status_code == 504
    assert late.json()["error"]["code"] == "deadline_exceeded"
    row = await InferenceRequest.objects.aget()
    assert (row.status, row.completion_tokens > 3) == ("failed", True)


async def test_embeddings_and_logprobs_over_the_native_api() -> None:
    await sync_to_async(make_base)()
    async with running_engine():
        embedded = (
            await post("/api/inference/embeddings", model="base:tiny", input=["a b", "c"])
        ).json()
        answered = (
            await post(
                "/api/inference",
                model="base:tiny",
                prompt="x",
                max_tokens=5,
                logprobs=True,
                top_logprobs=2,
            )
        ).json()
    assert (len(embedded["embeddings"]), embedded["prompt_tokens"]) == (2, 3)
    assert [len(token["top"]) for token in answered["logprobs"]] == [2] * 5
    timings = answered["timings"]
    assert timings["prefill_ms"] == pytest.approx(
        timings["first_token_ms"] - timings["queue_ms"], abs=0.01
    )
    assert answered["cached_tokens"] == 0
