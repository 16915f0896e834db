"""What real programs sent to `/v1/responses`, recorded in November 2026: Codex 0.171, openai-agents
0.24, LangChain 1.7 and Vercel's AI SDK 6. Long texts are shortened."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from backends.base import Message
from inference.gateway.request import GenerationRequest
from inference.v1.compatibility import Unsupported
from inference.v1.responses.memory import Memory
from inference.v1.responses.schemas import ResponseIn

pytestmark = pytest.mark.any_database
RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> ResponseIn:
    return ResponseIn.model_validate_json((RECORDED / f"{name}.json").read_text())


def turns(request: GenerationRequest) -> Sequence[Message]:
    [chat] = request.prompts
    assert isinstance(chat, list)
    return chat


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDED.glob("*.json")))
def test_it_is_a_chat_that_every_template_takes(name: str) -> None:
    asked = recorded(name)
    asked.recall(lambda id: {"type": "message", "role": "assistant", "content": "Yes?"})
    request = asked.request()
    roles = [turn["role"] for turn in turns(request)]
    assert "system" not in roles[1:]
    assert all(one != other or one == "tool" for one, other in itertools.pairwise(roles))
    assert request.sampling.max_tokens is None
    json.dumps(request.tools)


def test_codex_gets_its_calls_and_results_as_turns() -> None:
    asked = recorded("codex")
    request = asked.request()
    assert [turn["role"] for turn in turns(request)] == [
        *("system", "user"),
        *("assistant", "tool", "assistant", "tool"),
    ]
    assert turns(request)[2]["content"] == "I will write it."
    assert turns(request)[3]["name"] == "exec_command"
    names = [tool["function"]["name"] for tool in request.tools]
    assert names[0] == "exec_command"
    assert "multi_agent_v1__spawn_agent" in names
    assert asked.passed_over() == ["tools.web_search"]


def test_codex_offers_tools_among_its_items_some_of_which_take_a_text() -> None:
    request = recorded("codex_custom").request()
    tools = {tool["function"]["name"]: tool["function"] for tool in request.tools}
    assert list(tools["functions__exec"]["parameters"]["properties"]) == ["input"]
    assert "lark grammar" in tools["functions__exec"]["description"]
    assert "collaboration__send_message" in tools
    _, _, answer, result = turns(request)
    assert answer["reasoning_content"].startswith("adapter amber")
    [call] = answer["tool_calls"]
    assert call["function"]["name"] == result["name"] == "functions__exec"
    assert "apply_patch" in json.loads(call["function"]["arguments"])["input"]
    assert result["content"] == "Script completed\nWall time 0.0 seconds\nOutput:\n{}"
    assert request.template == {"enable_thinking": True, "reasoning_effort": "low"}
    assert request.one_call


def test_what_agents_write_to_each_other_is_a_users_turn() -> None:
    told = {"type": "agent_message", "author": "/lead", "recipient": "/lead/a"}
    part = {"type": "input_text", "text": "Look at a.py"}
    asked = ResponseIn(model="m", input=[{**told, "content": [part]}])
    assert turns(asked.request()) == [
        {"role": "user", "content": "/lead to /lead/a:\nLook at a.py"}
    ]


def test_a_picture_that_a_tool_gave_does_not_end_the_session() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "view_image", "arguments": "{}"}
    picture = [{"type": "input_image", "image_url": "data:image/png;base64,"}]
    result = {"type": "function_call_output", "call_id": "c", "output": picture}
    asked = ResponseIn(model="m", input=[{"role": "user", "content": "Look"}, call, result])
    assert turns(asked.request())[-1]["content"] == "[Not shown: this model reads text alone.]"
    assert asked.passed_over() == ["input.function_call_output.images"]


def test_a_long_session_has_thousands_of_items() -> None:
    items = [{"role": role, "content": "Hi"} for role in ("user", "assistant")]
    request = ResponseIn(model="m", input=2000 * items).request()
    assert len(turns(request)) == 4000


def test_langchain_sends_thoughts_back_as_a_summary() -> None:
    _, answer, _ = turns(recorded("langchain").request())
    assert answer["reasoning_content"].startswith("adapter amber")
    assert answer["content"].startswith("valley granite")


def test_a_reference_is_looked_up_or_refused_in_words() -> None:
    asked = recorded("vercel_reference")
    item = {"id": asked.items[1].id, "type": "message", "role": "assistant", "content": "Yes?"}
    memory = Memory()
    memory.keep([item], None)
    asked.recall(lambda id: memory.find(id, None))
    assert [turn["content"] for turn in turns(asked.request())] == ["Hello", "Yes?", "And?"]
    with pytest.raises(Unsupported, match=r"The item_reference .* send the item itself"):
        recorded("vercel_reference").recall(lambda id: None)


def test_the_memory_of_items_is_bounded() -> None:
    memory = Memory(most=100)
    items: list[dict[str, Any]] = [{"id": name, "text": 20 * name} for name in "abc"]
    memory.keep(items[:2], None)
    assert memory.find("a", None) == items[0]
    memory.keep(items[2:], None)
    assert memory.find("b", None) is None
    assert [memory.find(name, None) for name in "ac"] == [items[0], items[2]]
