"""Ollama's chats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from inference.clients.asking import Ask, Broken, Call, Reply, Tool, Turn
from inference.clients.faces.speech import Refusal, RefusedInStream, ended

_REASONS: Mapping[str, Any] = {"stop": "stop", "length": "length"}


class Ollama:
    name: ClassVar = "ollama"
    title: ClassVar = "Ollama"
    path: ClassVar = "/ollama/api/chat"
    lacks: ClassVar[Mapping[str, str]] = {
        "tool_forced": "Ollama cannot name a tool that must be called.",
        "call_cut_off": "Ollama's calls are whole objects.",
    }

    def body(self, ask: Ask) -> dict[str, Any]:
        options: dict[str, Any] = {"num_predict": ask.max_tokens, "temperature": 0}
        if ask.stop:
            options["stop"] = [ask.stop]
        body: dict[str, Any] = {
            "messages": [message for turn in ask.turns for message in _messages(turn)],
            "options": options,
            "stream": ask.stream,
            "think": ask.thinking is not None,
        }
        if ask.tools:
            body["tools"] = [{"type": "function", "function": _function(t)} for t in ask.tools]
        if ask.format is not None:
            body["format"] = ask.format or "json"
        return body

    def limit(self, body: dict[str, Any], most: int) -> None:
        options = body.setdefault("options", {})
        asked = options.get("num_predict") or most
        options["num_predict"] = min(asked, most) if asked > 0 else most

    def tools(self, body: dict[str, Any]) -> list[Tool]:
        functions = [tool["function"] for tool in body.get("tools", [])]
        return [Tool(one["name"], "", one.get("parameters") or {}) for one in functions]

    def read(self, body: Any) -> Reply:
        if not body["done"]:
            raise Broken("The answer does not say that it is done.")
        message = body["message"]
        finish = ended(body["done_reason"], _REASONS)
        calls = [
            Call(one["function"]["name"], json.dumps(one["function"]["arguments"]), one["id"])
            for one in message.get("tool_calls") or []
        ]
        return Reply(
            text=message["content"],
            thoughts=message.get("thinking", ""),
            calls=tuple(calls),
            finish="calls" if calls and finish == "stop" else finish,
            prompt_tokens=body["prompt_eval_count"],
            completion_tokens=body["eval_count"],
            said=(message,),
        )

    def read_stream(self, text: str) -> Reply:
        message: dict[str, Any] = {"role": "assistant", "content": "", "thinking": ""}
        line: dict[str, Any] = {}
        for line in map(json.loads, text.splitlines()):
            if "error" in line:
                raise RefusedInStream(self.refusal(line))
            said = line["message"]
            message["content"] += said["content"]
            message["thinking"] += said.get("thinking", "")
            if said.get("tool_calls"):
                message["tool_calls"] = [*message.get("tool_calls", []), *said["tool_calls"]]
        if not line.get("done"):
            raise Broken("The stream ended without a line that says it is done.")
        return self.read({**line, "message": message})

    def refusal(self, body: Any) -> Refusal:
        return Refusal(str(body["error"]), "", body.get("failed_generation"))


def _messages(turn: Turn) -> list[Any]:
    if turn.said:
        return list(turn.said)
    message: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.role == "tool":
        return [{**message, "tool_name": turn.calls[0].name}]
    if turn.calls:
        message["tool_calls"] = [
            {"function": {"name": call.name, "arguments": json.loads(call.arguments)}}
            for call in turn.calls
        ]
    return [message]


def _function(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.schema}
