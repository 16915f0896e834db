"""Anthropic's messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from inference.clients.asking import Ask, Broken, Call, Reply, Tool, Turn
from inference.clients.faces.speech import (
    Refusal,
    RefusedInStream,
    ended,
    refused,
    said_in_events,
)

_REASONS: Mapping[str, Any] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "calls",
}
_DELTAS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}


class Messages:
    name: ClassVar = "messages"
    title: ClassVar = "Anthropic messages"
    path: ClassVar = "/v1/messages"
    lacks: ClassVar[Mapping[str, str]] = {"json_mode": "Anthropic has JSON by a schema alone."}

    def body(self, ask: Ask) -> dict[str, Any]:
        first = [turn.content for turn in ask.turns[:1] if turn.role == "system"]
        body: dict[str, Any] = {
            "messages": _joined(ask.turns[len(first) :]),
            "max_tokens": ask.max_tokens,
            "temperature": 0,
            "thinking": {"type": "disabled"},
        }
        if first:
            body["system"] = first[0]
        if ask.thinking is not None:
            body["thinking"] = {"type": "enabled", "budget_tokens": ask.thinking}
        if ask.tools:
            body["tools"] = [_tool(tool) for tool in ask.tools]
        if ask.forced:
            body["tool_choice"] = {"type": "tool", "name": ask.forced}
        elif ask.one_call:
            body["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}
        if ask.format:
            body["output_config"] = {"format": {"type": "json_schema", "schema": ask.format}}
        if ask.stop:
            body["stop_sequences"] = [ask.stop]
        if ask.stream:
            body["stream"] = True
        return body

    def limit(self, body: dict[str, Any], most: int) -> None:
        body["max_tokens"] = min(body["max_tokens"], most)

    def tools(self, body: dict[str, Any]) -> list[Tool]:
        own = [tool for tool in body.get("tools", []) if "input_schema" in tool]
        return [Tool(tool["name"], "", tool["input_schema"]) for tool in own]

    def read(self, body: Any) -> Reply:
        content, usage = body["content"], body["usage"]
        calls = [block for block in content if block["type"] == "tool_use"]
        return Reply(
            text="".join(_texts(content, "text")),
            thoughts="".join(_texts(content, "thinking")),
            calls=tuple(Call(one["name"], json.dumps(one["input"]), one["id"]) for one in calls),
            finish=ended(body["stop_reason"], _REASONS),
            prompt_tokens=usage["input_tokens"] + usage["cache_read_input_tokens"],
            completion_tokens=usage["output_tokens"],
            said=({"role": "assistant", "content": content},),
        )

    def read_stream(self, text: str) -> Reply:
        message: dict[str, Any] = {}
        blocks: list[dict[str, Any]] = []
        kind = ""
        for kind, event in said_in_events(text):
            if kind == "error":
                raise RefusedInStream(refused(event["error"]))
            if kind == "message_start":
                message = event["message"]
            elif kind == "content_block_start":
                if event["index"] != len(blocks):
                    raise Broken("The stream's blocks are not in order.")
                blocks.append({**event["content_block"], "partial_json": ""})
            elif kind == "content_block_delta":
                name = _DELTAS[event["delta"]["type"]]
                blocks[event["index"]][name] += event["delta"][name]
            elif kind == "message_delta":
                message |= event["delta"]
                message["usage"] |= event["usage"]
        if kind != "message_stop":
            raise Broken("The stream ended without message_stop.")
        for block in blocks:
            written = block.pop("partial_json")
            if block["type"] == "tool_use":
                block["input"] = json.loads(written or "{}")
        return self.read({**message, "content": blocks})

    def refusal(self, body: Any) -> Refusal:
        return refused(body["error"])


def _joined(turns: Iterable[Turn]) -> list[Any]:
    """Results that follow each other, and what the user says then, are one turn."""
    messages: list[Any] = []
    for turn in turns:
        if turn.said:
            messages += turn.said
            continue
        role = "user" if turn.role == "tool" else turn.role
        if messages and messages[-1]["role"] == role == "user":
            messages[-1]["content"] += _blocks(turn)
        else:
            messages.append({"role": role, "content": _blocks(turn)})
    return messages


def _blocks(turn: Turn) -> list[dict[str, Any]]:
    if turn.role == "tool":
        result = {"type": "tool_result", "tool_use_id": turn.calls[0].id}
        return [{**result, "content": turn.content}]
    said = [{"type": "text", "text": turn.content}] if turn.content else []
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call)}
        for call in turn.calls
    ]
    return [*said, *calls]


def _input(call: Call) -> Any:
    """An object, or the text of one that was cut off, as clients of streams keep it."""
    try:
        return json.loads(call.arguments)
    except ValueError:
        return call.arguments


def _tool(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.schema}


def _texts(content: Iterable[dict[str, Any]], kind: str) -> list[str]:
    return [block[kind] for block in content if block["type"] == kind]
