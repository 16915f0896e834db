"""OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from inference.clients.asking import Ask, Broken, Call, Reply, Tool, Turn
from inference.clients.faces.speech import (
    Refusal,
    RefusedInStream,
    ended,
    refused,
    said_in_events,
)

_REASONS: Mapping[str, Any] = {"stop": "stop", "length": "length", "tool_calls": "calls"}


class ChatCompletions:
    name: ClassVar = "chat"
    title: ClassVar = "Chat completions"
    path: ClassVar = "/v1/chat/completions"
    lacks: ClassVar[Mapping[str, str]] = {}

    def body(self, ask: Ask) -> dict[str, Any]:
        body: dict[str, Any] = {
            "messages": [message for turn in ask.turns for message in _messages(turn)],
            "max_tokens": ask.max_tokens,
            "temperature": 0,
            "enable_thinking": ask.thinking is not None,
        }
        if ask.thinking is not None:
            body["thinking_budget"] = ask.thinking
        if ask.tools:
            body["tools"] = [{"type": "function", "function": _function(t)} for t in ask.tools]
        if ask.forced:
            body["tool_choice"] = {"type": "function", "function": {"name": ask.forced}}
        if ask.one_call:
            body["parallel_tool_calls"] = False
        if ask.format:
            schema = {"name": "answer", "schema": ask.format, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif ask.format is not None:
            body["response_format"] = {"type": "json_object"}
        if ask.stop:
            body["stop"] = [ask.stop]
        if ask.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body

    def limit(self, body: dict[str, Any], most: int) -> None:
        name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
        body[name] = min(body.get(name) or most, most)

    def tools(self, body: dict[str, Any]) -> list[Tool]:
        functions = [tool["function"] for tool in body.get("tools", [])]
        return [
            Tool(one["name"], one.get("description", ""), one.get("parameters") or {})
            for one in functions
        ]

    def read(self, body: Any) -> Reply:
        [choice] = body["choices"]
        return _reply(choice["message"], choice["finish_reason"], body["usage"])

    def read_stream(self, text: str) -> Reply:
        message: dict[str, Any] = {"role": "assistant", "content": "", "reasoning_content": ""}
        calls: dict[int, dict[str, Any]] = {}
        reason, usage, last = None, None, None
        for _, last in said_in_events(text):
            if last == "[DONE]":
                continue
            if "error" in last:
                raise RefusedInStream(refused(last["error"]))
            usage = last.get("usage") or usage
            for choice in last["choices"]:
                delta = choice["delta"]
                for name in ("content", "reasoning_content"):
                    message[name] += delta.get(name) or ""
                for piece in delta.get("tool_calls") or []:
                    _join(calls, piece)
                reason = choice["finish_reason"] or reason
        if last != "[DONE]" or usage is None:
            raise Broken("The stream ended without its usage and [DONE].")
        if calls:
            message["tool_calls"] = [calls[number] for number in sorted(calls)]
        return _reply(message, reason, usage)

    def refusal(self, body: Any) -> Refusal:
        return refused(body["error"])


def _messages(turn: Turn) -> list[Any]:
    if turn.said:
        return list(turn.said)
    message: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.role == "tool":
        return [{**message, "tool_call_id": turn.calls[0].id}]
    if turn.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in turn.calls
        ]
    return [message]


def _function(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.schema}


def _join(calls: dict[int, dict[str, Any]], piece: dict[str, Any]) -> None:
    """Add a piece of a call to those before it."""
    known = calls.setdefault(
        piece["index"], {"type": "function", "function": {"name": "", "arguments": ""}}
    )
    if piece.get("id"):
        known["id"] = piece["id"]
    for name, value in piece.get("function", {}).items():
        known["function"][name] += value or ""


def _reply(message: dict[str, Any], reason: object, usage: dict[str, Any]) -> Reply:
    calls = [
        Call(call["function"]["name"], call["function"]["arguments"], call["id"])
        for call in message.get("tool_calls") or []
    ]
    return Reply(
        text=message["content"] or "",
        thoughts=message.get("reasoning_content") or "",
        calls=tuple(calls),
        finish=ended(reason, _REASONS),
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        thought_tokens=usage["completion_tokens_details"]["reasoning_tokens"],
        total=usage["total_tokens"],
        said=(message,),
    )
