"""Formats and forced tools with the real `openai` and `anthropic` clients, and an engine on a real
tokenizer and a random model, which by itself would write nothing of the kind."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anthropic import AsyncAnthropic
from asgiref.sync import sync_to_async
from django.db import connections
from openai import AsyncOpenAI

from backends.mlx import MLXBackend
from registry.models import BaseModel
from registry.storage import artifacts, paths
from tests.backends.mlx.data.templates import CHATML
from tests.backends.mlx.tool_template import IN_TAGS, TEMPLATE, TOOLS, with_template
from tests.inference.engines import running_engine
from tests.inference.openai_asking import web

ASK: Any = [{"role": "user", "content": "Lunch with Ana next Friday at noon"}]
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
FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "event", "schema": EVENT, "strict": True},
}
WEATHER: dict[str, Any] = json.loads(json.dumps(TOOLS[0]))
WEATHER["function"]["parameters"]["properties"] = {"city": {"enum": ["Oslo", "Rome"]}}
WEATHER["function"]["parameters"] |= {"required": ["city"], "additionalProperties": False}


@pytest.fixture
async def served(
    tiny_base: Path, tmp_path: Path, transactional_db: None
) -> AsyncIterator[httpx2.AsyncClient]:
    """The web side before an engine that holds the tiny model, with templates that know tools, in two
    notations, and with one that knows none."""
    for name, template in (("tiny", TEMPLATE), ("coder", IN_TAGS), ("plain", CHATML)):
        folder = with_template(tiny_base, tmp_path / name, template)
        staging = paths.staging_dir("base")
        shutil.copytree(folder, staging, dirs_exist_ok=True)
        await sync_to_async(_register)(name, staging)
    async with running_engine(MLXBackend(), budget_bytes=2**31), web() as http:
        yield http
    await sync_to_async(connections.close_all)()


@pytest.fixture
def openai(served: httpx2.AsyncClient) -> AsyncOpenAI:
    return AsyncOpenAI(
        base_url="http://127.0.0.1/v1", api_key="any", max_retries=0, http_client=served
    )


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


async def chat(client: AsyncOpenAI, **more: Any) -> Any:
    asked: Any = {"model": "base:tiny", "messages": ASK, "max_tokens": 200, **more}
    return (await client.chat.completions.create(**asked)).choices[0]


async def streamed_arguments(client: AsyncOpenAI, **more: Any) -> list[str]:
    asked: Any = {"model": "base:tiny", "messages": ASK, "max_tokens": 200, "stream": True, **more}
    return [
        call.function.arguments
        async for chunk in await client.chat.completions.create(**asked)
        for call in chunk.choices[0].delta.tool_calls or ()
    ]


async def test_a_schema_is_kept_by_a_model_that_knows_none(openai: AsyncOpenAI) -> None:
    for temperature in (0, 1.5):
        answer = await chat(openai, response_format=FORMAT, temperature=temperature, seed=4)
        value = json.loads(answer.message.content)
        assert value["day"] in ("Monday", "Friday")
        assert 0 <= value["hour"] <= 23
        assert isinstance(value["all_day"], bool)
        assert answer.finish_reason == "stop"


@pytest.mark.parametrize("model", ["base:tiny", "base:coder", "base:plain"])
async def test_a_tool_is_called_by_a_model_and_a_template_that_know_none(
    openai: AsyncOpenAI, model: str
) -> None:
    tools = {"model": model, "tools": [WEATHER], "temperature": 1.5, "seed": 4}
    forced = await chat(openai, **tools, tool_choice="required")
    assert forced.finish_reason == "tool_calls"
    [call] = forced.message.tool_calls
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    pieces = await streamed_arguments(openai, **tools, tool_choice="required")
    assert "".join(pieces) == call.function.arguments
    assert len(pieces) > 2

    # Every way that it ends: the call's result, cut in the call, cut in free text, or a schema.
    result = {"role": "tool", "tool_call_id": call.id, "content": "4 degrees"}
    told = await chat(openai, **tools, messages=[*ASK, forced.message, result], max_tokens=8)
    assert told.message.content
    cut = await chat(openai, **tools, tool_choice="required", max_tokens=8)
    assert cut.finish_reason == "length"
    assert cut.message.content.startswith("<tool_call>")
    free = await chat(openai, **tools, max_tokens=8)
    assert free.finish_reason == "length"
    assert free.message.content
    either = await chat(openai, **tools, response_format=FORMAT)
    if either.finish_reason == "stop":
        assert json.loads(either.message.content)["day"] in ("Monday", "Friday")
    else:
        assert either.message.tool_calls


async def test_a_tool_in_words_over_the_other_faces(
    served: httpx2.AsyncClient, openai: AsyncOpenAI
) -> None:
    function = WEATHER["function"]
    asked: Any = {
        "model": "base:plain",
        "input": ASK,
        "temperature": 1.5,
        "tool_choice": "required",
    }
    tools: Any = [{"type": "function", **function}]
    [item] = (await openai.responses.create(**asked, tools=tools)).output
    assert (item.type, item.name) == ("function_call", "weather")
    assert json.loads(item.arguments)["city"] in ("Oslo", "Rome")

    client = AsyncAnthropic(
        base_url="http://127.0.0.1", api_key="any", max_retries=0, http_client=served
    )
    asked = {"model": "base:plain", "messages": ASK, "max_tokens": 200}
    schema = {"input_schema": function["parameters"]}
    tools = [{"name": "weather", "description": function["description"], **schema}]
    answer: Any = await client.messages.create(**asked, tools=tools, tool_choice={"type": "any"})
    [block] = answer.content
    assert (answer.stop_reason, block.type, block.name) == ("tool_use", "tool_use", "weather")
    assert block.input["city"] in ("Oslo", "Rome")
