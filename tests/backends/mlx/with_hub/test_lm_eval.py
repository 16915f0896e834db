"""A multiple-choice task of lm-eval, against the hub's `/v1/completions` and in process."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from asgiref.sync import sync_to_async
from django.db import connections

from backends.lm_eval import parse_results
from backends.mlx import MLXBackend
from registry.models import BaseModel
from registry.storage import artifacts, paths
from tests.inference.engines import running_engine, until
from tests.inference.processes import free_port

lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed")
SUBJECTS = ("fox", "crow", "waiter", "soup", "river", "old man", "moon", "kettle")
ENDS = ("ran away.", "was cold, and nobody wanted it", "sang", "told us so twice, at the table")


@pytest.fixture
async def address(lively_base: Path, transactional_db: None) -> AsyncIterator[str]:
    """The web side over HTTP, before an engine that holds the tiny model."""
    from hub.asgi import application

    staging = paths.staging_dir("base")
    shutil.copytree(lively_base, staging, dirs_exist_ok=True)
    await sync_to_async(_register)(staging)
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(application, port=port, lifespan="off", log_level="warning")
    )
    async with running_engine(MLXBackend(), budget_bytes=2**31, max_rows=16, cache_bytes=2**24):
        serving = asyncio.create_task(server.serve())
        await until(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        await serving
    await sync_to_async(connections.close_all)()


def _register(staging: Path) -> None:
    manifest = artifacts.publish(staging, paths.base_dir("tiny"))
    BaseModel.objects.create(
        name="tiny",
        source=BaseModel.Source.FOLDER,
        path=paths.relative(paths.base_dir("tiny")),
        manifest_sha256=manifest.sha256,
        size_bytes=1,
        context_length=2048,
    )


def task(folder: Path) -> dict[str, Any]:
    """Questions with four endings each, in a file: a random model gets about a quarter right."""
    rows = [
        {"question": f"What did the {subject} do? The {subject}", "ends": ENDS, "right": n % 4}
        for n, subject in enumerate(SUBJECTS)
    ]
    file = folder / "task.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "task": "endings",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_target": "right",
        "doc_to_choice": "{{ends}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }


def against_the_hub(address: str, tokenizer: Path, tasks: list[Any]) -> Any:
    return lm_eval.simple_evaluate(
        model="local-completions",
        model_args={
            "model": "base:tiny",
            "base_url": f"{address}/v1/completions",
            "tokenizer": str(tokenizer),
            "tokenizer_backend": "huggingface",
            "max_retries": 1,
        },
        batch_size=32,  # prompts in one request
        tasks=tasks,
        bootstrap_iters=0,
        log_samples=True,
    )


@pytest.mark.filterwarnings("ignore")  # of packages that lm-eval uses
async def test_the_score_is_that_of_the_hubs_own_scoring(
    address: str, lively_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    from lm_eval.tasks import TaskManager

    # Reading the descriptions of its own ten thousand tasks takes 11 s, twice.
    tasks = functools.partial(TaskManager, include_defaults=False)
    monkeypatch.setattr("lm_eval.evaluator.TaskManager", tasks)
    endings: list[Any] = [task(tmp_path)]
    found = await asyncio.to_thread(against_the_hub, address, lively_base, endings)
    backend = MLXBackend()
    own = await asyncio.to_thread(
        backend.run_lm_eval, lively_base, None, endings, len(SUBJECTS), lambda: None
    )
    assert parse_results(found) == own
    assert 0 <= own["endings"]["acc"] <= 1
    answers = [answer for one in found["samples"]["endings"] for answer in one["filtered_resps"]]
    assert len(answers) == len(SUBJECTS) * len(ENDS)
    assert len({round(logprob, 4) for logprob, _ in answers}) > len(SUBJECTS)
