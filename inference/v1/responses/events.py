"""The events of one stream, in the order of OpenAI's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import encode_basestring  # written in C; an encoder is not built for each token
from typing import Any

from inference.gateway.answer import Stream
from inference.gateway.streaming import frame, one_line
from inference.protocol import Called, Chunk, Done, TokenInfo
from inference.v1.errors import failed
from inference.v1.logprobs import described
from inference.v1.responses.bodies import Items, beginning, ending, made_id
from inference.v1.responses.schemas import ResponseIn
from registry.errors import HubError


class Events:
    """An item of thoughts and one of text while there are any, then one for each call. Each event
    has the number that follows that of the one before. `keep` gets the items when all are there."""

    def __init__(
        self, stream: Stream, asked: ResponseIn, keep: Callable[[list[dict[str, Any]]], None]
    ) -> None:
        self._keep = keep
        self._items = Items(asked)
        self._response = beginning(asked, stream.served, stream.started.request_id)
        self._output: list[dict[str, Any]] = []  # the items that are complete
        self._number = 0
        self._open = ""  # "reasoning", "message" or "call", while one has started
        self._started = 0  # calls, and the item of the one that has started:
        self._call: dict[str, Any] = {}
        self._id = ""
        self._written: list[str] = []  # of the item that has started
        self._tokens: list[TokenInfo] = []
        self._thought = False

    def start(self) -> list[bytes]:
        return [
            self._event("response.created", response=self._response),
            self._event("response.in_progress", response=self._response),
        ]

    def chunk(self, index: int, chunk: Chunk) -> bytes:
        events = b""
        if chunk.thoughts:
            events = self._opened("reasoning") + self._thoughts(chunk.thoughts)
        for piece in chunk.calls:
            events += self._called(**piece)
        if not chunk.text and not chunk.logprobs:
            return events
        events += self._opened("message")
        self._written.append(chunk.text)
        self._tokens += chunk.logprobs or []
        if not chunk.logprobs:
            return events + self._text(chunk.text)
        tokens = described(chunk.logprobs)
        place = {"item_id": self._id, "output_index": len(self._output), "content_index": 0}
        kind = "response.output_text.delta"
        return events + self._event(kind, **place, delta=chunk.text, logprobs=tokens)

    def end(self, index: int, done: Done) -> list[bytes]:
        frames = [self._closed("incomplete" if done.finish_reason == "length" else "completed")]
        says = any(item["type"] == "message" for item in self._output)
        if not says and self._items.says_something("", done, self._thought):
            frames += [self._opened("message"), self._closed()]
        for number, call in enumerate(done.tool_calls):
            if number >= self._started:  # else its pieces were sent
                frames.append(self._begin_call(number, call) + self._closed())
        self._response |= ending(done, self._output)
        self._keep(self._output)
        kind = f"response.{self._response['status']}"
        return [*frames, self._event(kind, response=self._response)]

    def finish(self) -> list[bytes]:
        return []

    def fail(self, problem: HubError) -> bytes:
        """OpenAI's two: an event that says it, and the response as it failed."""
        said = failed(problem, _problem)
        kinds = {429: "rate_limit_exceeded"}
        code = kinds.get(
            problem.status, "server_error" if problem.status >= 500 else "invalid_prompt"
        )
        error = {**said, "code": code}
        self._response |= {"status": "failed", "error": error, "output": self._output}
        told = self._event("error", **said)
        return told + self._event("response.failed", response=self._response)

    # ----------------------------------------------------------------- items

    def _opened(self, kind: str) -> bytes:
        """What begins an item of that kind, unless it is the one that has started."""
        if self._open == kind:
            return b""
        ended = self._closed()
        self._open, self._written, self._tokens = kind, [], []
        self._id = made_id("msg" if kind == "message" else "rs")
        if kind == "message":
            item = {**self._items.message("", [], self._id), "content": []}
            part = self._items.text("", [])
        else:
            self._thought = True
            item = self._items.reasoning("", self._id)
            part = self._items.thought("")
        added = self._item_event("added", {**item, "status": "in_progress"})
        return ended + added + self._part_event("added", part)

    def _closed(self, status: str = "completed") -> bytes:
        """What ends the item that has started, if one has."""
        if not self._open:
            return b""
        text, kind, self._open = "".join(self._written), self._open, ""
        if kind == "call":
            return self._close_call()
        if kind == "message":
            item = self._items.message(text, self._tokens, self._id)
            [part] = item["content"]
            whole = self._content_event(
                "response.output_text.done", text=text, logprobs=part["logprobs"]
            )
        else:
            item = self._items.reasoning(text, self._id)
            part = self._items.thought(text)
            whole = self._thought_event("done", text=text)
        item["status"] = status
        events = whole + self._part_event("done", part, kind) + self._item_event("done", item)
        self._output.append(item)
        return events

    def _called(self, number: int, name: str, arguments: str) -> bytes:
        """More of a call. The input of a custom tool is known with the last of its arguments only, so
        that it, and for their order all after it, come whole."""
        if number < self._started:
            return self._call_delta(arguments)
        if number > self._started or not name or self._items.is_custom(name):
            return b""
        return self._begin_call(number, {"name": name, "arguments": arguments})

    def _begin_call(self, number: int, call: Called) -> bytes:
        ended = self._closed()
        self._started = number + 1
        self._open, self._written = "call", []
        self._call = self._items.call(call)
        _, field = _call_parts(self._call)
        written = self._call[field]
        added = {**self._call, field: "", "status": "in_progress"}
        return ended + self._item_event("added", added) + self._call_delta(written)

    def _call_delta(self, written: str) -> bytes:
        if not written:
            return b""
        self._written.append(written)
        kind, _ = _call_parts(self._call)
        return self._event(f"response.{kind}.delta", **self._call_place, delta=written)

    def _close_call(self) -> bytes:
        """One whose arguments are not whole was cut off."""
        kind, field = _call_parts(self._call)
        written = "".join(self._written)
        item = {**self._call, field: written}
        if field == "arguments" and not _is_json(written):
            item["status"] = "incomplete"
        told = {field: written, "name": item["name"]}
        events = self._event(f"response.{kind}.done", **self._call_place, **told)
        events += self._item_event("done", item)
        self._output.append(item)
        return events

    @property
    def _call_place(self) -> dict[str, Any]:
        return {"item_id": self._call["id"], "output_index": len(self._output)}

    # ----------------------------------------------------------------- events

    def _thoughts(self, text: str) -> bytes:
        self._written.append(text)
        return self._thought_event("delta", delta=text)

    def _thought_event(self, what: str, **fields: Any) -> bytes:
        if self._items.summarizes:
            return self._content_event(
                f"response.reasoning_summary_text.{what}", place="summary_index", **fields
            )
        return self._content_event(f"response.reasoning_text.{what}", **fields)

    def _part_event(self, what: str, part: dict[str, Any], kind: str = "") -> bytes:
        if (kind or self._open) == "reasoning" and self._items.summarizes:
            name = f"response.reasoning_summary_part.{what}"
            return self._content_event(name, place="summary_index", part=part)
        return self._content_event(f"response.content_part.{what}", part=part)

    def _item_event(self, what: str, item: dict[str, Any]) -> bytes:
        kind = f"response.output_item.{what}"
        return self._event(kind, output_index=len(self._output), item=item)

    def _content_event(self, kind: str, place: str = "content_index", **fields: Any) -> bytes:
        at = {"item_id": self._id, "output_index": len(self._output), place: 0}
        return self._event(kind, **at, **fields)

    def _text(self, text: str) -> bytes:
        """The event of a plain piece of text, of which a stream is made."""
        self._number += 1
        return (
            'event: response.output_text.delta\ndata: {"type": "response.output_text.delta", '
            f'"sequence_number": {self._number - 1}, "item_id": "{self._id}", "output_index": '
            f'{len(self._output)}, "content_index": 0, "delta": {one_line(encode_basestring(text))}, '
            '"logprobs": []}\n\n'
        ).encode()

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._number += 1
        data = {"type": kind, "sequence_number": self._number - 1, **fields}
        return frame(data, event=kind)


def _call_parts(item: dict[str, Any]) -> tuple[str, str]:
    """(the name of its events, the field that the model writes)."""
    if item["type"] == "custom_tool_call":
        return "custom_tool_call_input", "input"
    return "function_call_arguments", "arguments"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _problem(
    status: int, message: str, code: str | None = None, param: str | None = None, **more: Any
) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param, **more}
