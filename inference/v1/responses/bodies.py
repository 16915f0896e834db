"""A response as a whole, and the items that it is made of."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from backends.base import inputs
from inference.gateway.answer import Answer
from inference.gateway.request import answered_by
from inference.protocol import Called, Done, TokenInfo
from inference.v1.logprobs import described
from inference.v1.responses.schemas import ResponseIn
from inference.v1.responses.tools import CustomTool
from registry.promotion.resolve import Served


def response(answer: Answer, asked: ResponseIn) -> dict[str, Any]:
    """A whole answer."""
    made = Items(asked)
    output = []
    if answer.thoughts:
        output.append(made.reasoning(answer.thoughts))
    if made.says_something(answer.text, answer.done, bool(answer.thoughts)):
        output.append(made.message(answer.text, answer.logprobs))
    output += [made.call(call) for call in answer.done.tool_calls]
    head = beginning(asked, answer.served, answer.request_id)
    return head | ending(answer.done, output)


def beginning(asked: ResponseIn, served: Served, request_id: str) -> dict[str, Any]:
    """The response while nothing is in it."""
    sent = asked.model_dump(
        mode="json",
        by_alias=True,
        include={"tools", "tool_choice", "text", "metadata", "reasoning", "instructions"},
        exclude_none=True,
    )
    reasoning = sent.get("reasoning") or {}
    return {
        "id": f"resp_{request_id}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": sent.get("instructions"),
        "max_output_tokens": asked.max_output_tokens,
        "max_tool_calls": None,
        "metadata": sent.get("metadata") or {},
        "model": answered_by(served),
        "output": [],
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "service_tier": "default",
        "store": False,
        "temperature": asked.temperature or 0.0,
        "text": {"format": {"type": "text"}} | sent.get("text", {}),
        "tool_choice": sent.get("tool_choice", "auto"),
        "tools": sent.get("tools", []),
        "top_logprobs": asked.top_logprobs or 0,
        "top_p": 1.0 if asked.top_p is None else asked.top_p,
        "truncation": "disabled",
        "usage": None,
    }


def ending(done: Done, output: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What changes of the response when its answer is there."""
    cut = done.finish_reason == "length"
    said = [item for item in output if item["type"] in ("message", "reasoning")]
    if cut and said:  # the beginning of a call that was cut off is a text
        said[-1]["status"] = "incomplete"
    return {
        "status": "incomplete" if cut else "completed",
        "completed_at": None if cut else int(time.time()),
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": output,
        "usage": {
            "input_tokens": done.prompt_tokens,
            "input_tokens_details": {"cached_tokens": done.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": done.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": done.thought_tokens},
            "total_tokens": done.prompt_tokens + done.completion_tokens,
        },
    }


class Items:
    """The items of one response to `asked`."""

    def __init__(self, asked: ResponseIn) -> None:
        self._offered = asked.offered
        self._with_logprobs = asked.with_logprobs
        self.summarizes = asked.reasoning is not None and asked.reasoning.asks_for_a_summary

    @staticmethod
    def says_something(text: str, done: Done, thought: bool) -> bool:
        """Whether there is a message: without one an answer that is empty would have no item."""
        cut_thinking = thought and done.finish_reason == "length"
        return bool(text) or not (done.tool_calls or cut_thinking)

    def reasoning(self, thoughts: str, id: str = "") -> dict[str, Any]:
        """Who asks for a summary gets the thoughts there: the hub does not shorten them."""
        item: dict[str, Any] = {"id": id or made_id("rs"), "type": "reasoning", "summary": []}
        if self.summarizes:
            item["summary"] = [self.thought(thoughts)] if thoughts else []
        else:
            item["content"] = [self.thought(thoughts)] if thoughts else []
        return {**item, "encrypted_content": None, "status": "completed"}

    def thought(self, text: str) -> dict[str, Any]:
        kind = "summary_text" if self.summarizes else "reasoning_text"
        return {"type": kind, "text": text}

    def message(self, text: str, tokens: Sequence[TokenInfo], id: str = "") -> dict[str, Any]:
        return {
            "id": id or made_id("msg"),
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [self.text(text, tokens)],
        }

    def text(self, text: str, tokens: Sequence[TokenInfo]) -> dict[str, Any]:
        logprobs = described(tokens) if self._with_logprobs else []
        return {"type": "output_text", "annotations": [], "logprobs": logprobs, "text": text}

    def is_custom(self, name: str) -> bool:
        """Whether a call of that name is one of a custom tool."""
        tool = self._offered.get(name)
        return tool is not None and isinstance(tool.tool, CustomTool)

    def call(self, call: Called) -> dict[str, Any]:
        """By the name and in the form that its client knows the tool."""
        tool = self._offered.get(call["name"])
        name = tool.tool.name if tool else call["name"]
        ids = {"status": "completed", "call_id": made_id("call"), "name": name}
        if tool and tool.namespace:
            ids["namespace"] = tool.namespace.name
        if tool and isinstance(tool.tool, CustomTool):
            text = inputs.text_in(call["arguments"])
            return {"id": made_id("ctc"), "type": "custom_tool_call", **ids, "input": text}
        arguments = call["arguments"]
        return {"id": made_id("fc"), "type": "function_call", **ids, "arguments": arguments}


def made_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"
