"""What the tests of the OpenAI-compatible API ask with the real `openai` client."""

from typing import Any

from tests.inference.processes import Hub

ASK: Any = [{"role": "user", "content": "Lunch with Ana next Friday at noon"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "clock"}}
TOOLS = [CLOCK, WEATHER]
CALL: Any = [{"role": "user", "content": "Ask weather for Oslo"}]


def chat(hub: Hub, **more: Any) -> Any:
    asked: dict[str, Any] = {"model": "calendar", "messages": ASK, **more}
    return hub.openai.chat.completions.create(**asked)


def complete(hub: Hub, **more: Any) -> Any:
    asked: dict[str, Any] = {"model": "calendar", "prompt": "Once upon a time", **more}
    return hub.openai.completions.create(**asked)
