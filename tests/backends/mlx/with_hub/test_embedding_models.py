"""An encoder through `/v1/embeddings`: registered from its folder, loaded, asked for a thousand vectors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from backends.mac.memory import footprint
from backends.mlx import MLXBackend
from registry.bases import registration
from registry.models import BaseModel
from tests.backends.mlx.embedding.folders import BERT, encoder_weights, pool, write_encoder
from tests.inference.engines import running_engine
from tests.inference.openai_asking import in_process


@pytest.fixture
async def threads(transactional_db: None) -> AsyncIterator[None]:
    yield
    await sync_to_async(connections.close_all)()


async def test_a_thousand_texts_keep_their_order(tmp_path: Path, threads: None) -> None:
    folder = pool(write_encoder(tmp_path / "mini", encoder_weights(BERT)), "cls_token")
    register = sync_to_async(registration.register_base)
    await register("mini", BaseModel.Source.FOLDER, str(folder))
    words = ("fox", "crow", "runs", "far", "home")
    texts = [" ".join(words[: 1 + n % 5]) for n in range(1000)]
    budget = footprint() + 2**28  # this process holds more than an engine does
    async with running_engine(MLXBackend(), budget_bytes=budget) as engine, in_process() as client:
        answer = await client.embeddings.create(
            model="base:mini", input=texts, encoding_format="float"
        )
        alone = await client.embeddings.create(
            model="base:mini", input=texts[3], encoding_format="float"
        )
        assert engine.stats()["models_bytes"] < budget
    vectors = [row.embedding for row in answer.data]
    assert len(vectors) == 1000
    assert vectors[3] == pytest.approx(alone.data[0].embedding, abs=1e-5)
    assert vectors[:5] != vectors[1:6]
    for n in range(5, 1000):
        assert vectors[n] == pytest.approx(vectors[n % 5], abs=1e-5)
