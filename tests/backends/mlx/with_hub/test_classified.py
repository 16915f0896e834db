"""From a CSV file to labels with probabilities, on the real trainer and the real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from math import exp
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import AsyncClient

from backends.mlx import MLXBackend
from registry.bases.registration import base_path, register_base
from registry.datasets.snapshots import register_dataset
from registry.models import BaseModel, Model, ModelVersion
from registry.storage import paths
from tests.backends.mlx.with_hub.test_trained_and_scored import run_next
from tests.inference.engines import running_engine
from tests.training.build import make_config
from training import queue

ROWS = ["text,label", *["red red red,colour", "cat cat cat,animal"] * 8]


@pytest.fixture
async def trained(
    lively_base: Path, tmp_path: Path, settings: Any, transactional_db: None
) -> AsyncIterator[ModelVersion]:
    settings.BACKEND = "mlx"
    source = tmp_path / "source"
    source.mkdir()
    for split in ("train", "valid", "test"):
        (source / f"{split}.csv").write_text("\n".join(ROWS) + "\n")
    yield await sync_to_async(_train)(lively_base, source)
    await sync_to_async(connections.close_all)()


def _train(base: Path, source: Path) -> ModelVersion:
    registered = register_base("tiny", BaseModel.Source.FOLDER, str(base))
    model = Model.objects.create(name="kinds", base_model=registered, task_type="classification")
    config = make_config(
        iters=30, batch_size=4, warmup=1, steps_per_eval=30, save_every=30, learning_rate=3e-3,
        fine_tune_type="full", max_seq_length=64, scoring={"examples": 6},
    )  # fmt: skip
    queue.enqueue(model, register_dataset("kinds", source), config)
    run_next()
    return ModelVersion.objects.select_related("model", "base_model", "dataset").get()


async def test_a_csv_of_labels_becomes_a_version_that_answers_with_them(
    trained: ModelVersion,
) -> None:
    assert (trained.evaluation["problem"], sorted(trained.labels)) == ("", ["animal", "colour"])
    assert trained.metrics["accuracy"] == 1
    assert trained.metrics["macro_f1"] > trained.metrics["base_macro_f1"]
    text = "red red red"
    async with running_engine(MLXBackend(), budget_bytes=2**31):
        answer = await AsyncClient().post(
            "/v1/chat/completions",
            {
                "model": "kinds",
                "messages": [{"role": "user", "content": text}],
                "logprobs": True,
                "top_logprobs": 5,
            },
            content_type="application/json",
        )
    [choice] = answer.json()["choices"]
    assert choice["message"]["content"] == "colour"
    [token] = choice["logprobs"]["content"]
    found = {one["token"]: exp(one["logprob"]) for one in token["top_logprobs"]}
    assert sum(found.values()) == pytest.approx(1)
    # The same from a model of its own, label by label.
    model = MLXBackend().load(base_path(trained.base_model), paths.absolute(trained.artifact_path))
    prompt = model.encode([{"role": "user", "content": text}])
    alone = {one: exp(model.likelihoods(prompt, [one], None)[0]) for one in trained.labels}
    model.close()
    expected = {label: share / sum(alone.values()) for label, share in alone.items()}
    assert found == pytest.approx(expected, abs=1e-3)
