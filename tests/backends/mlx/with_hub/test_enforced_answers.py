"""Formats and forced tools with the real `openai` and `anthropic` clients, and an engine on a real
tokenizer and a random model, which by itself would write nothing of the kind."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from openai import AsyncOpenAI

from backends.mlx import MLXBackend
from backends.mlx.serving.generation import MLXModel
from registry.models import BaseModel
from registry.storage import artifacts, paths
from tests.backends.mlx.data.templates import CHATML
from tests.backends.mlx.tool_template import IN_TAGS, TEMPLATE, TOOLS, with_marks, with_template
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


CALL = 4092  # a token
MARKS = {CALL: "<tool_call>", 4093: "</tool_call>"}
TEMPLATES = {"tiny": TEMPLATE, "coder": IN_TAGS, "plain": CHATML}
MARKED = {"caller": TEMPLATE, "tagger": IN_TAGS}
TEMPLATES |= MARKED
# Begins a call at once, and again and again.
CALLS = {"logit_bias": {str(CALL): 100}, "temperature": 1.5, "seed": 4}


@pytest.fixture
async def served(
    tiny_base: Path, tmp_path: Path, transactional_db: None
) -> AsyncIterator[httpx2.AsyncClient]:
    """The web side before an engine that holds the tiny model, with templates that know tools, in two
    notations, and with one that knows none; and with marks that are tokens."""
    for name, template in TEMPLATES.items():
        make = partial(with_marks, marks=MARKS) if name in MARKED else with_template
        folder = make(tiny_base, tmp_path / name, template)
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
    from anthropic import AsyncAnthropic

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


def strict(tool: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**tool, "function": {**tool["function"], "strict": True, **more}}


@pytest.mark.parametrize("model", ["base:caller", "base:tagger"])
async def test_a_strict_tool_that_need_not_be_called_keeps_its_schema(
    openai: AsyncOpenAI, model: str
) -> None:
    asked: Any = {"model": model, "tools": [strict(WEATHER)], "max_tokens": 160, **CALLS}
    answer = await chat(openai, **asked)
    calls = answer.message.tool_calls
    assert len(calls) > 1
    for call in calls:
        assert call.function.name == "weather"
        assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    pieces = await streamed_arguments(openai, **asked)
    assert "".join(pieces).startswith("".join(call.function.arguments for call in calls))
    assert len(pieces) > 2 * len(calls)
    [one] = (await chat(openai, **asked, parallel_tool_calls=False)).message.tool_calls
    assert one.function.arguments == calls[0].function.arguments

    # Without it the model writes what it likes, which is no call.
    assert not (await chat(openai, **{**asked, "tools": [WEATHER]})).message.tool_calls
    words = {"model": model, "temperature": 1.5, "seed": 4, "max_tokens": 24}
    plain = await chat(openai, **words, tools=[WEATHER])
    assert (await chat(openai, **words, tools=[strict(WEATHER)])).message == plain.message


async def test_strict_over_the_other_faces(
    served: httpx2.AsyncClient, openai: AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI's Responses API has it on by default. They know no bias: the model gets one here."""
    from anthropic import AsyncAnthropic

    bias = ((CALL, 100.0),)
    insert = MLXModel.insert
    monkeypatch.setattr(
        MLXModel,
        "insert",
        lambda self, uid, prompt, adapter, sampling: insert(
            self, uid, prompt, adapter, replace(sampling, logit_bias=bias, seed=4)
        ),
    )
    function = WEATHER["function"]
    asked: Any = {"model": "base:caller", "input": ASK, "temperature": 1.5, "max_output_tokens": 99}
    for strictness, held in (({}, True), ({"strict": True}, True), ({"strict": False}, False)):
        tools: Any = [{"type": "function", **function, **strictness}]
        items = (await openai.responses.create(**asked, tools=tools)).output
        calls = [item for item in items if item.type == "function_call"]
        assert bool(calls) is held
        for call in calls:
            assert json.loads(call.arguments)["city"] in ("Oslo", "Rome")
    client = AsyncAnthropic(
        base_url="http://127.0.0.1", api_key="any", max_retries=0, http_client=served
    )
    schema: Any = {"name": "weather", "input_schema": function["parameters"], "strict": True}
    asked = {"model": "base:caller", "messages": ASK, "max_tokens": 99}
    answer: Any = await client.messages.create(**asked, tools=[schema])
    blocks = [block for block in answer.content if block.type == "tool_use"]
    assert blocks
    for block in blocks:
        assert block.name == "weather"
        assert block.input["city"] in ("Oslo", "Rome")

    # A schema that cannot be enforced, and one that can.
    odd = {"type": "object", "properties": {"city": {"type": "string", "pattern": "(?<=a)b"}}}
    tools = [{"type": "function", "name": "odd", "parameters": odd, "strict": True}, *tools]
    asked = {"model": "base:caller", "input": ASK, "tools": tools, "max_output_tokens": 40}
    raw = await openai.responses.with_raw_response.create(**asked)
    assert raw.headers["x-hub-ignored"] == "tools.odd.strict"


async def test_openais_agents_call_strict_tools(openai: AsyncOpenAI) -> None:
    """Their SDK makes every function strict."""
    agents = pytest.importorskip("agents")
    heard = []

    def weather(city: Literal["Oslo", "Rome"], days: int) -> str:
        """The weather of a city."""
        heard.append((city, days))
        return "4 degrees"

    agents.set_tracing_disabled(True)
    settings = agents.ModelSettings(temperature=1.5, max_tokens=160, extra_body=CALLS)
    agent = agents.Agent(
        name="forecaster",
        model=agents.OpenAIChatCompletionsModel("base:caller", openai),
        model_settings=settings,
        tools=[agents.function_tool(weather)],
    )
    with pytest.raises(agents.MaxTurnsExceeded):  # the model calls again and again
        await agents.Runner.run(agent, "Oslo, please", max_turns=2)
    assert len(heard) > 1
    assert all(city in ("Oslo", "Rome") and isinstance(days, int) for city, days in heard)
