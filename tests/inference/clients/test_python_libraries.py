"""Libraries and tools from PyPI with a loop over a tool, JSON and a stream, against real processes.

They are not among the project's dependencies. To run all of them:
`uv run --with cohere --with litellm --with instructor --with pydantic-ai-slim[openai,anthropic] --with
langchain-anthropic --with langchain-ollama pytest tests/inference/clients/test_python_libraries.py`,
with `uv tool install llm` for the last one.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.inference.openai_asking import CALL, WEATHER
from tests.inference.processes import Hub

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # those of other people's code
    pytest.mark.any_database,
]
ASKED = CALL[0]["content"]


@pytest.fixture(autouse=True)
def left_open() -> Iterator[None]:
    """Some of them leave connections to be collected, and the loop that they ran in."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with suppress(RuntimeError):  # none
            asyncio.get_event_loop().close()
        asyncio.set_event_loop(None)
        if litellm := sys.modules.get("litellm"):
            litellm.in_memory_llm_clients_cache.flush_cache()
            litellm.module_level_client.close()
        gc.collect()


class Meeting(BaseModel):
    day: str


def weather(city: str) -> str:
    """The weather of a city."""
    return f"4 degrees in {city}"


def library(name: str, package: str) -> Any:
    return pytest.importorskip(name, reason=f"{package} is not installed (PyPI)")


@pytest.mark.parametrize(
    ("provider", "base"),
    [("openai", "/v1"), ("anthropic", ""), ("ollama_chat", "/ollama")],
)
def test_litellm_calls_tools_and_goes_on(hub: Hub, provider: str, base: str) -> None:
    litellm = library("litellm", "litellm")

    def ask(messages: list[Any], **more: Any) -> Any:
        return litellm.completion(
            model=f"{provider}/calendar",
            api_base=hub.url + base,
            api_key="any",
            messages=messages,
            max_tokens=200,
            **more,
        )

    message = ask(CALL, tools=[WEATHER]).choices[0].message
    [call] = message.tool_calls
    assert set(json.loads(call.function.arguments)) == {"city"}
    result = {"role": "tool", "tool_call_id": call.id, "name": "weather", "content": "4 degrees"}
    final = ask([*CALL, message.model_dump(), result], tools=[WEATHER])
    assert final.choices[0].message.content
    assert final.usage.completion_tokens > 0
    hello = [{"role": "user", "content": "Hello"}]
    whole = ask(hello).choices[0].message.content
    pieces = [chunk.choices[0].delta.content or "" for chunk in ask(hello, stream=True)]
    assert "".join(pieces) == whole
    schema = {"name": "meeting", "schema": Meeting.model_json_schema()}
    made = ask(hello, response_format={"type": "json_schema", "json_schema": schema})
    assert Meeting.model_validate_json(made.choices[0].message.content)


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA", "JSON"])
def test_instructor_makes_objects(hub: Hub, mode: str) -> None:
    instructor = library("instructor", "instructor")
    made = instructor.from_openai(hub.openai, mode=getattr(instructor.Mode, mode))
    messages = [{"role": "user", "content": "When?"}]
    if mode == "JSON":  # held to any object, not to its schema
        with pytest.raises(Exception, match="day"):
            made.chat.completions.create(
                model="calendar", response_model=Meeting, messages=messages, max_retries=0
            )
        return
    meeting = made.chat.completions.create(
        model="calendar", response_model=Meeting, messages=messages, max_retries=0
    )
    assert isinstance(meeting, Meeting)


@pytest.mark.parametrize("api", ["chat", "responses", "anthropic"])
def test_pydantic_ai_loops_over_a_tool(hub: Hub, api: str) -> None:
    library("pydantic_ai", "pydantic-ai")
    from pydantic_ai import Agent  # type: ignore[import-not-found,unused-ignore]

    def model() -> Any:
        if api == "anthropic":
            from pydantic_ai.models.anthropic import (  # type: ignore[import-not-found,unused-ignore]
                AnthropicModel,
            )
            from pydantic_ai.providers.anthropic import (  # type: ignore[import-not-found,unused-ignore]
                AnthropicProvider,
            )

            return AnthropicModel(
                "calendar", provider=AnthropicProvider(api_key="any", base_url=hub.url)
            )
        from pydantic_ai.models.openai import (  # type: ignore[import-not-found,unused-ignore]
            OpenAIChatModel,
            OpenAIResponsesModel,
        )
        from pydantic_ai.providers.openai import (  # type: ignore[import-not-found,unused-ignore]
            OpenAIProvider,
        )

        provider = OpenAIProvider(base_url=f"{hub.url}/v1", api_key="any")
        kind = OpenAIChatModel if api == "chat" else OpenAIResponsesModel
        return kind("calendar", provider=provider)

    agent = Agent(model(), instructions="Be brief", tools=[weather])
    try:
        done = agent.run_sync(ASKED)
    except TypeError as error:  # before it sends anything
        pytest.skip(f"this pydantic-ai does not fit this {api} client: {error}")
    kinds = [part.part_kind for message in done.all_messages() for part in message.parts]
    assert "tool-call" in kinds
    assert "tool-return" in kinds
    assert done.output
    more = agent.run_sync("Thanks", message_history=done.all_messages())
    assert more.output
    typed = Agent(model(), output_type=Meeting).run_sync("When?")
    assert isinstance(typed.output, Meeting)


@pytest.mark.parametrize("api", ["openai", "anthropic", "ollama"])
def test_langchain_loops_over_a_tool(hub: Hub, api: str) -> None:
    made = library(f"langchain_{api}", f"langchain-{api}")
    chat: Any
    if api == "openai":
        chat = made.ChatOpenAI(model="calendar", base_url=f"{hub.url}/v1", api_key="any")
    elif api == "anthropic":
        chat = made.ChatAnthropic(model="calendar", base_url=hub.url, api_key="any")
    else:
        chat = made.ChatOllama(model="calendar", base_url=f"{hub.url}/ollama")
    assert chat.invoke("Hello").text == "".join(piece.text for piece in chat.stream("Hello"))
    called = chat.bind_tools([weather]).invoke(ASKED)
    [call] = called.tool_calls
    assert set(call["args"]) == {"city"}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "4 degrees"}
    final = chat.bind_tools([weather]).invoke([CALL[0], called, result])
    assert final.text
    assert final.usage_metadata["output_tokens"] > 0
    assert isinstance(chat.with_structured_output(Meeting).invoke("When?"), Meeting)


RANKED = ["the sea is blue", "lunch with Ana on Friday", "lunch alone", "dinner with Ana"]


@pytest.mark.parametrize(("kind", "base"), [("Client", ""), ("ClientV2", "/v1")])
def test_coheres_client_ranks_texts(hub: Hub, kind: str, base: str) -> None:
    cohere = library("cohere", "cohere")
    client = getattr(cohere, kind)("any", base_url=hub.url + base)
    answer = client.rerank(model="calendar", query="lunch with Ana", documents=RANKED, top_n=3)
    assert [one.index for one in answer.results] == [1, 3, 2]
    assert answer.results[0].relevance_score == 1
    assert answer.meta.tokens.input_tokens > 0


def test_litellm_ranks_texts(hub: Hub) -> None:
    answer = library("litellm", "litellm").rerank(
        model="jina_ai/calendar",
        api_base=f"{hub.url}/v1",
        api_key="any",
        query="lunch with Ana",
        documents=RANKED,
        top_n=2,
    )
    assert [one["index"] for one in answer.results] == [1, 3]


def test_the_tool_llm_asks_and_streams(hub: Hub, tmp_path: Path) -> None:
    llm = shutil.which("llm")
    if llm is None:
        pytest.skip("llm is not installed (uv tool install llm)")
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: hub\n  model_name: calendar\n  api_base: {hub.url}/v1\n"
        "  supports_tools: true\n  supports_schema: true\n"
    )
    env = {**os.environ, "LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "any"}
    for name in [name for name in env if name.startswith(("PYTHON", "VIRTUAL_ENV"))]:
        del env[name]

    def run(*arguments: str) -> str:
        ran = subprocess.run(
            [llm, *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    whole = run("-m", "hub", "--no-stream", "Hello")
    assert whole.strip()
    assert run("-m", "hub", "Hello") == whole
    assert run("-m", "hub", "-c", "And?").strip()
    assert set(json.loads(run("-m", "hub", "--schema", "day str", "When?"))) == {"day"}
    function = "def weather(city: str) -> str:\n    'Weather'\n    return '4 degrees'"
    told = run("-m", "hub", "--functions", function, "--td", ASKED)
    assert told.strip()
