"""Ollama's chat messages and tools, as they come in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from backends.base import Message
from inference.v1.compatibility import Text
from inference.v1.turns import settled

_Name = Annotated[str, Field(min_length=1, max_length=200)]


class FunctionCallIn(BaseModel):
    model_config = ConfigDict(extra="ignore")  # index

    name: _Name
    arguments: dict[str, Any] = {}


class ToolCallIn(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: Annotated[str | None, Field(max_length=200)] = None
    function: FunctionCallIn

    def call(self, call_id: str) -> dict[str, Any]:
        """As backends read it: with an id, and the arguments as JSON text."""
        arguments = json.dumps(self.function.arguments, ensure_ascii=False)
        function = {"name": self.function.name, "arguments": arguments}
        return {"id": self.id or call_id, "type": "function", "function": function}


class MessageIn(BaseModel):
    """A turn. An assistant's may have thoughts and calls of tools; a tool's says which it answers."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "user", "assistant", "tool"]
    content: Text | None = None
    thinking: Text | None = None
    images: list[Any] | None = None
    tool_calls: Annotated[list[ToolCallIn], Field(max_length=128)] | None = None
    tool_name: _Name | None = None
    tool_call_id: _Name | None = None


def chat(messages: Sequence[MessageIn]) -> list[Message]:
    """The chat for the model's template. Ollama's results name a tool, or nothing: they answer the
    first open call that fits."""
    turns: list[Message] = []
    open_calls: dict[str, str] = {}  # the tool's name of each call without a result
    for number, message in enumerate(messages):
        turn = Message(role=message.role, content=message.content or "")
        if message.role == "assistant":
            if message.thinking:
                turn["reasoning_content"] = message.thinking
            called = enumerate(message.tool_calls or [])
            if calls := [call.call(f"call_{number}_{n}") for n, call in called]:
                turn["tool_calls"] = calls
                open_calls |= {call["id"]: call["function"]["name"] for call in calls}
        elif message.role == "tool":
            if call_id := _answered(message, open_calls):
                turn["tool_call_id"], turn["name"] = call_id, open_calls.pop(call_id)
            elif message.tool_name:
                turn["name"] = message.tool_name
        turns.append(turn)
    return settled(turns)


def _answered(result: MessageIn, open_calls: dict[str, str]) -> str | None:
    if result.tool_call_id in open_calls:
        return result.tool_call_id
    named = (id_ for id_, name in open_calls.items() if result.tool_name in (name, None))
    return next(named, None)


class FunctionIn(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: _Name
    description: Text | None = None
    parameters: dict[str, Any] | None = None


class ToolIn(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: Literal["function"] = "function"
    function: FunctionIn

    def description(self) -> dict[str, Any]:
        """The tool as the model's template shows it."""
        function = {
            "name": self.function.name,
            "description": self.function.description or "",
            "parameters": self.function.parameters or {"type": "object", "properties": {}},
        }
        return {"type": "function", "function": function}
