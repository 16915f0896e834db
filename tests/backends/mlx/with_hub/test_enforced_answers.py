"""Formats and forced tools through `/v1`, with an engine on a real tokenizer and a random model,
which by itself would write nothing of the kind."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import AsyncClient

from backends.mlx import MLXBackend
from registry.models import BaseModel
from registry.storage import artifacts, paths
from tests.backends.mlx.data.templates import CHATML
from tests.backends.mlx.tool_template import TEMPLATE, TOOLS, with_template
from tests.inference.engines import running_engine

ASK = [{"role": "user", "content": "Lunch with Ana next Friday at noon"}]
EVENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "day": {"enum": ["Monday", "Friday"]},
        "hour": {"type": "integer", "minimum": 0, "maximum": 23},
        "all_day": {"type": "boolean"},
    },
    "required": ["day", "hour", "all_day"],
    "additionalProperties": False,
}
WEATHER: dict[str, Any] = json.loads(json.dumps(TOOLS[0]))
WEATHER["function"]["parameters"]["properties"] = {"city": {"enum": ["Oslo", "Rome"]}}
WEATHER["function"]["parameters"] |= {"required": ["city"], "additionalProperties": False}


@pytest.fixture
async def served(
    tiny_base: Path, tmp_path: Path, transactional_db: None
) -> AsyncIterator[AsyncClient]:
    """The web side before an engine that holds the tiny model, with a template that knows tools and
    with one that knows none."""
    for name, template in (("tiny", TEMPLATE), ("plain", CHATML)):
        folder = with_template(tiny_base, tmp_path / name, template)
        staging = paths.staging_dir("base")
        shutil.copytree(folder, staging, dirs_exist_ok=True)
        await sync_to_async(_register)(name, staging)
    async with running_engine(MLXBackend(), budget_bytes=2**31):
        yield AsyncClient()
    await sync_to_async(connections.close_all)()


def _register(name: str, staging: Path) -> None:
    manifest = artifacts.publish(staging, paths.base_dir(name))
    BaseModel.objects.create(
        name=name,
        source=BaseModel.Source.FOLDER,
        path=paths.relative(paths.base_dir(name)),
        manifest_sha256=manifest.sha256,
        size_bytes=1,
        context_length=2048,
    )


async def chat(served: AsyncClient, **more: Any) -> dict[str, Any]:
    body = {"model": "base:tiny", "messages": ASK, "max_tokens": 200, **more}
    answer = await served.post("/v1/chat/completions", body, content_type="application/json")
    assert answer.status_code == 200, answer.content
    return dict(answer.json()["choices"][0])


async def streamed_arguments(served: AsyncClient, **more: Any) -> list[str]:
    body = {"model": "base:tiny", "messages": ASK, "max_tokens": 200, "stream": True, **more}
    answer: Any = await served.post("/v1/chat/completions", body, content_type="application/json")
    text = b"".join([part async for part in answer.streaming_content]).decode()
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return [
        call["function"]["arguments"]
        for chunk in chunks
        for call in chunk["choices"][0]["delta"].get("tool_calls", ())
    ]


async def test_a_schema_is_kept_and_a_tool_called_by_a_model_that_knows_neither(
    served: AsyncClient,
) -> None:
    schema = {"name": "event", "schema": EVENT, "strict": True}
    format_ = {"type": "json_schema", "json_schema": schema}
    for temperature in (0, 1.5):
        answer = await chat(served, response_format=format_, temperature=temperature, seed=4)
        value = json.loads(answer["message"]["content"])
        assert value["day"] in ("Monday", "Friday")
        assert 0 <= value["hour"] <= 23
        assert isinstance(value["all_day"], bool)
        assert answer["finish_reason"] == "stop"
    for model in ("base:tiny", "base:plain"):
        tools = {"model": model, "tools": [WEATHER], "temperature": 1.5, "seed": 4}
        forced = await chat(served, **tools, tool_choice="required")
        assert forced["finish_reason"] == "tool_calls"
        [call] = forced["message"]["tool_calls"]
        assert call["function"]["name"] == "weather"
        assert json.loads(call["function"]["arguments"])["city"] in ("Oslo", "Rome")
        pieces = await streamed_arguments(served, **tools, tool_choice="required")
        assert "".join(pieces) == call["function"]["arguments"]
        assert len(pieces) > 3
        cut = await chat(served, **tools, tool_choice="required", max_tokens=8)
        assert cut["finish_reason"] == "length"
        assert cut["message"]["content"].startswith("<tool_call>")
        free = await chat(served, **tools, max_tokens=8)
        assert free["finish_reason"] == "length"
        assert free["message"]["content"]
        either = await chat(served, **tools, response_format=format_)
        if either["finish_reason"] == "stop":
            assert json.loads(either["message"]["content"])["day"] in ("Monday", "Friday")
        else:
            assert either["message"]["tool_calls"]
