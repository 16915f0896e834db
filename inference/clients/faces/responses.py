"""OpenAI's Responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from inference.clients.asking import Ask, Broken, Call, Reply, Tool, Turn
from inference.clients.faces.speech import (
    Refusal,
    RefusedInStream,
    refused,
    said_in_events,
)

_TEXT = ("response.output_text.delta",)
_THOUGHTS = ("response.reasoning_text.delta", "response.reasoning_summary_text.delta")


class Responses:
    name: ClassVar = "responses"
    title: ClassVar = "Responses"
    path: ClassVar = "/v1/responses"
    lacks: ClassVar[Mapping[str, str]] = {"stop": "Responses has no stop sequences."}

    def body(self, ask: Ask) -> dict[str, Any]:
        body: dict[str, Any] = {
            "input": [item for turn in ask.turns for item in _items(turn)],
            "max_output_tokens": ask.max_tokens,
            "temperature": 0,
            "store": False,
            "reasoning": {"effort": "none" if ask.thinking is None else "medium"},
        }
        if ask.thinking is not None:
            body["thinking_budget"] = ask.thinking
        if ask.tools:
            body["tools"] = [_function(tool) for tool in ask.tools]
        if ask.forced:
            body["tool_choice"] = {"type": "function", "name": ask.forced}
        if ask.one_call:
            body["parallel_tool_calls"] = False
        if ask.format:
            schema = {"type": "json_schema", "name": "answer", "schema": ask.format}
            body["text"] = {"format": {**schema, "strict": True}}
        elif ask.format is not None:
            body["text"] = {"format": {"type": "json_object"}}
        if ask.stream:
            body["stream"] = True
        return body

    def limit(self, body: dict[str, Any], most: int) -> None:
        body["max_output_tokens"] = min(body.get("max_output_tokens") or most, most)

    def tools(self, body: dict[str, Any]) -> list[Tool]:
        items = [item for item in body["input"] if isinstance(item, dict)]
        more = [item["tools"] for item in items if item.get("type") == "additional_tools"]
        return [tool for tools in (body.get("tools") or [], *more) for tool in _offered(tools)]

    def read(self, body: Any) -> Reply:
        output, usage, status = body["output"], body["usage"], body["status"]
        if status not in ("completed", "incomplete"):
            raise Broken(f"The response ends with the status {status!r}.")
        calls = tuple(_call(item) for item in output if item["type"].endswith("_call"))
        cut = status == "incomplete"
        return Reply(
            text="".join(_texts(output, "message", "content")),
            thoughts="".join(
                [*_texts(output, "reasoning", "summary"), *_texts(output, "reasoning", "content")]
            ),
            calls=calls,
            finish="length" if cut else "calls" if calls else "stop",
            prompt_tokens=usage["input_tokens"],
            completion_tokens=usage["output_tokens"],
            thought_tokens=usage["output_tokens_details"]["reasoning_tokens"],
            total=usage["total_tokens"],
            said=tuple(output),
        )

    def read_stream(self, text: str) -> Reply:
        words, thoughts, arguments = "", "", dict[str, str]()
        event: dict[str, Any] = {}
        for number, (kind, event) in enumerate(said_in_events(text)):
            if kind != event["type"] or number != event["sequence_number"]:
                raise Broken(f"Event {number} of the stream is {kind!r} out of its order.")
            if kind in _TEXT:
                words += event["delta"]
            elif kind in _THOUGHTS:
                thoughts += event["delta"]
            elif kind.endswith(("arguments.delta", "call_input.delta")):
                arguments[event["item_id"]] = arguments.get(event["item_id"], "") + event["delta"]
            elif kind == "response.failed":
                raise RefusedInStream(refused(event["response"]["error"]))
        if event.get("type") not in ("response.completed", "response.incomplete"):
            raise Broken("The stream ended without response.completed.")
        reply = self.read(event["response"])
        pieces = (words, thoughts, list(arguments.values()))
        if pieces != (reply.text, reply.thoughts, _written(event["response"]["output"])):
            raise Broken("The pieces of the stream do not make its last response.")
        return reply

    def refusal(self, body: Any) -> Refusal:
        return refused(body["error"])


def _items(turn: Turn) -> list[Any]:
    if turn.said:
        return list(turn.said)
    if turn.role == "tool":
        output = {"type": "function_call_output", "call_id": turn.calls[0].id}
        return [{**output, "output": turn.content}]
    said = [{"role": turn.role, "content": turn.content}] if turn.content else []
    calls = [
        {
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }
        for call in turn.calls
    ]
    return [*said, *calls]


def _function(tool: Tool) -> dict[str, Any]:
    about = {"name": tool.name, "description": tool.description, "parameters": tool.schema}
    return {"type": "function", **about}


def _offered(tools: Iterable[dict[str, Any]]) -> Iterable[Tool]:
    """Functions and custom tools, those of namespaces too."""
    for tool in tools:
        if tool["type"] == "namespace":
            yield from _offered(tool["tools"])
        elif tool["type"] in ("function", "custom"):
            yield Tool(tool["name"], "", tool.get("parameters") or {})


def _texts(output: Iterable[dict[str, Any]], kind: str, parts: str) -> list[str]:
    items = [item for item in output if item["type"] == kind]
    return [part["text"] for item in items for part in item.get(parts) or []]


def _call(item: dict[str, Any]) -> Call:
    """A custom tool's input is a text of any kind; it comes as an object of no field."""
    return Call(item["name"], item.get("arguments", "{}"), item["call_id"])


def _written(output: Iterable[dict[str, Any]]) -> list[str]:
    calls = [item for item in output if item["type"].endswith("_call")]
    return [item["input"] if "input" in item else item["arguments"] for item in calls]
