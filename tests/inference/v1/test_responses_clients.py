"""Agents and libraries that speak the Responses API, as they come, against real processes.

They are not among the project's dependencies. To run all of them:
`npm install --prefix FOLDER @openai/codex @ai-sdk/openai ai zod`, then
`PATH=$PATH:FOLDER/node_modules/.bin NODE_PATH=FOLDER/node_modules uv run --with openai-agents
--with langchain-openai pytest tests/inference/v1/test_responses_clients.py`.
"""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from tests.inference.clients.node import node
from tests.inference.openai_asking import CALL
from tests.inference.processes import Hub

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # those of other people's code
    pytest.mark.any_database,
]
CODEX = shutil.which("codex")
RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))


class Meeting(BaseModel):
    day: str


def weather(city: str) -> str:
    """The weather of a city."""
    return f"4 degrees in {city}"


# --------------------------------------------------------------------------- Python


def test_openai_agents_loops_over_a_tool(hub: Hub) -> None:
    agents = pytest.importorskip("agents", reason="openai-agents is not installed")
    agents.set_tracing_disabled(True)
    asked = CALL[0]["content"]

    async def run() -> tuple[Any, Any, Any]:
        async with hub.async_openai() as client:
            model = agents.OpenAIResponsesModel("calendar", client)
            agent = agents.Agent(
                name="a",
                instructions="Be brief",
                model=model,
                tools=[agents.function_tool(weather)],
            )
            whole = await agents.Runner.run(agent, asked)
            more = [*whole.to_input_list(), {"role": "user", "content": "Thanks"}]
            assert (await agents.Runner.run(agent, more)).final_output
            streamed = agents.Runner.run_streamed(agent, asked)
            async for _ in streamed.stream_events():
                pass
            typed = agents.Agent(name="b", model=model, output_type=Meeting)
            return whole, streamed, (await agents.Runner.run(typed, asked)).final_output

    whole, streamed, meeting = asyncio.run(run())
    for result in (whole, streamed):
        assert [item.type for item in result.new_items] == [
            "tool_call_item",
            "tool_call_output_item",
            "message_output_item",
        ]
        assert "4 degrees in " in result.new_items[1].output
        assert result.final_output
    assert isinstance(meeting, Meeting)


def test_langchain_speaks_it(hub: Hub) -> None:
    langchain = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")

    def chat(**more: Any) -> Any:
        return langchain.ChatOpenAI(
            model="calendar",
            base_url=f"{hub.url}/v1",
            api_key="any",
            use_responses_api=True,
            max_retries=0,
            **more,
        )

    plain = chat()
    text = plain.invoke("Hello").text
    assert text == "".join(piece.text for piece in plain.stream("Hello"))
    called = plain.bind_tools([weather]).invoke(CALL[0]["content"])
    [call] = called.tool_calls
    assert call["name"] == "weather"
    result = {"role": "tool", "tool_call_id": call["id"], "content": "4 degrees"}
    final = plain.bind_tools([weather]).invoke([CALL[0], called, result])
    assert final.text
    assert final.usage_metadata["output_tokens"] > 0
    assert isinstance(plain.with_structured_output(Meeting).invoke("When?"), Meeting)
    thinking = chat(reasoning={"effort": "high", "summary": "auto"})
    thought = thinking.invoke("Hello")
    assert [block["type"] for block in thought.content_blocks] == ["reasoning", "text"]
    assert thinking.invoke([CALL[0], thought, {"role": "user", "content": "And?"}]).text


# --------------------------------------------------------------------------- Node

VERCEL = """
const { createOpenAI } = require('@ai-sdk/openai');
const { generateText, generateObject, streamText, tool, stepCountIs } = require('ai');
const { z } = require('zod');
const model = createOpenAI({ baseURL: process.env.HUB + '/v1', apiKey: 'any' })('calendar');
const inputSchema = z.object({ city: z.string() });
const weather = tool({ description: 'Weather', inputSchema, execute: async () => '4 degrees' });
const messages = [{ role: 'user', content: 'Hello' }];
const first = await generateText({ model, messages, maxRetries: 0 });
messages.push(...first.response.messages, { role: 'user', content: 'And?' });
const second = await generateText({ model, messages, maxRetries: 0 });
const streamed = streamText({ model, prompt: 'Hello', maxRetries: 0 });
const loop = await generateText({
  model, tools: { weather }, stopWhen: stepCountIs(3), prompt: 'Ask weather for Oslo',
  maxRetries: 0,
});
const schema = z.object({ day: z.string() });
const made = await generateObject({ model, schema, prompt: 'When?', maxRetries: 0 });
console.log(JSON.stringify({
  first: first.text, second: second.text, referred: second.request.body.input[1].type,
  streamed: await streamed.text, steps: loop.steps.length, final: loop.text, made: made.object,
}));
"""


def test_vercels_sdk_speaks_it_by_default(hub: Hub) -> None:
    told = node(VERCEL, "ai", "@ai-sdk/openai", HUB=hub.url)
    assert told["first"] == told["streamed"]
    assert told["second"]
    assert told["referred"] == "item_reference"
    assert (told["steps"], set(told["made"])) == (2, {"day"})
    assert told["final"]


# --------------------------------------------------------------------------- a scripted model


def called(name: str, **arguments: Any) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


PATCH = """apply_patch <<'EOF'
*** Begin Patch
*** Update File: note.txt
@@
-hello
+goodbye
*** End Patch
EOF"""
SCRIPT = (
    "I write it." + called("exec_command", cmd="echo hello > note.txt"),
    called("exec_command", cmd=PATCH),
    "The note says goodbye.",
)


@pytest.fixture(scope="class")
def scripted(processes: Hub) -> Iterator[Hub]:
    """A model that says those three things in turn, with room for an agent's prompt."""
    processes.start_engine(REPLY="\f".join(SCRIPT), CONTEXT=200_000)
    yield processes
    processes.start_engine()


class TestAgents:
    @pytest.mark.parametrize("file", RECORDED, ids=lambda path: path.stem)
    def test_what_they_sent_is_answered(self, scripted: Hub, file: Path) -> None:
        asked = {**json.loads(file.read_text()), "stream": True}
        if file.stem == "vercel_reference":
            body = {"model": "calendar", "input": "Hello"}
            said = httpx.post(f"{scripted.url}/v1/responses", json=body, timeout=60).json()
            asked["input"][1]["id"] = said["output"][0]["id"]
        answer = httpx.post(f"{scripted.url}/v1/responses", json=asked, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.text.rstrip().rpartition("event: ")[2].startswith("response.completed")

    @pytest.mark.skipif(CODEX is None, reason="codex is not installed (npm package @openai/codex)")
    def test_codex_finishes_a_session_with_a_file_edit(self, scripted: Hub, tmp_path: Path) -> None:
        home, work = tmp_path / "home", tmp_path / "work"
        home.mkdir()
        work.mkdir()
        (home / "config.toml").write_text(
            'model = "calendar"\nmodel_provider = "hub"\n[model_providers.hub]\nname = "hub"\n'
            f'base_url = "{scripted.url}/v1"\nwire_api = "responses"\n'
        )
        ran = subprocess.run(
            [
                *(CODEX, "exec", "--skip-git-repo-check"),
                *("--dangerously-bypass-approvals-and-sandbox", "Write a note"),
            ],
            cwd=work,
            env={**os.environ, "HOME": str(home), "CODEX_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.strip().endswith(SCRIPT[-1])
        assert (work / "note.txt").read_text() == "goodbye\n"
