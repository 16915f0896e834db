"""Models for embeddings only, as clients meet them: asked for vectors, listed, and refused a chat."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from inference.playground.offered import newest, offered
from registry.bases import registration
from registry.models import BaseModel
from tests.backends.mlx.embedding.folders import pool
from tests.inference.builders import make_base
from tests.inference.engines import running_engine
from tests.inference.openai_asking import in_process

pytestmark = [pytest.mark.usefixtures("db_in_threads"), pytest.mark.any_database]
REFUSED = "finder is an embedding model, for embeddings only: it cannot be trained or chatted with"
PROMPTS = {"query": "Find this: ", "document": ""}


def make_embedder(folder: Path) -> BaseModel:
    base = registration.base_path(make_base("tiny"))
    shutil.copytree(base, folder)
    pool(folder, "lasttoken", prompts=PROMPTS)
    return registration.register_base("finder", BaseModel.Source.FOLDER, str(folder))


@pytest.fixture
async def client(db_in_threads: None, tmp_path: Path) -> AsyncIterator[openai.AsyncOpenAI]:
    await sync_to_async(make_embedder)(tmp_path / "finder")
    async with running_engine(), in_process() as client:
        yield client


async def embed(client: openai.AsyncOpenAI, text: str, **body: Any) -> list[float]:
    answer = await client.embeddings.create(
        model="base:finder", input=text, extra_body=body, encoding_format="float"
    )
    return answer.data[0].embedding


async def test_a_prompt_of_the_model_comes_before_the_text(client: openai.AsyncOpenAI) -> None:
    plain = await embed(client, "a fox")
    assert await embed(client, "a fox", prompt_name="document") == plain
    assert await embed(client, "a fox", prompt_name="") == plain
    asked = await embed(client, "a fox", prompt_name="query")
    assert asked == await embed(client, "Find this: a fox") != plain
    with pytest.raises(openai.BadRequestError, match=r"no such prompt\. It has: query, document"):
        await embed(client, "a fox", prompt_name="passage")
    with pytest.raises(openai.BadRequestError, match="put the words that it needs before"):
        await client.embeddings.create(
            model="base:tiny", input="a fox", extra_body={"prompt_name": "query"}
        )


async def test_a_chat_and_a_text_are_refused_in_a_sentence(client: openai.AsyncOpenAI) -> None:
    turns: Any = [{"role": "user", "content": "Hello"}]
    with pytest.raises(openai.BadRequestError, match=REFUSED):
        await client.chat.completions.create(model="base:finder", messages=turns)
    with pytest.raises(openai.BadRequestError, match=REFUSED):
        await client.chat.completions.create(model="base:finder", messages=turns, stream=True)
    with pytest.raises(openai.BadRequestError, match=REFUSED):
        await client.completions.create(model="base:finder", prompt="Once")
    with pytest.raises(openai.BadRequestError, match=REFUSED):
        await client.responses.create(model="base:finder", input="Hello")


@pytest.mark.both_databases
async def test_models_are_listed_with_what_their_vectors_are(client: openai.AsyncOpenAI) -> None:
    listed: dict[str, Any] = {model.id: model async for model in client.models.list()}
    finder, tiny = listed["base:finder"], listed["base:tiny"]
    assert finder.embeddings == "the last hidden state of the last token"
    assert tiny.embeddings == "the mean of the last hidden states"
    assert (finder.embeddings_only, tiny.embeddings_only) == (True, False)
    assert (await client.models.retrieve("base:finder")).embeddings_only is True  # type: ignore[attr-defined]
    http = AsyncClient()
    shown = await http.post(
        "/ollama/api/show", {"model": "base:finder"}, content_type="application/json"
    )
    assert shown.json()["capabilities"] == ["embedding"]


async def test_the_playground_offers_only_what_can_chat(client: openai.AsyncOpenAI) -> None:
    assert [name.label for name in await sync_to_async(offered)("")] == ["base:tiny"]
    assert await sync_to_async(newest)() == "base:tiny"
