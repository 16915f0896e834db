"""Anthropic's answers: whole messages, and the events of a stream."""

from __future__ import annotations

import json
import uuid
from json.encoder import encode_basestring  # written in C; an encoder is not built for each token
from typing import Any

from inference.gateway.answer import Answer, Stream
from inference.gateway.record import correlation_id
from inference.gateway.request import answered_by
from inference.gateway.streaming import frame, one_line
from inference.protocol import Chunk, Done
from inference.v1.errors import failed
from registry.errors import HubError
from registry.promotion.resolve import Served

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error(
    status: int, message: str, code: str | None = None, param: str | None = None, **more: Any
) -> dict[str, Any]:
    """Anthropic has no place for `code` and `param`."""
    kind = _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": message, **more},
        "request_id": correlation_id() or "unknown",
    }


def _usage(done: Done) -> dict[str, int]:
    """`input_tokens` are those that were computed; the others were in the prefix cache."""
    return {
        "input_tokens": done.prompt_tokens - done.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": done.cached_tokens,
        "output_tokens": done.completion_tokens,
    }


def _stopped(done: Done) -> dict[str, Any]:
    """Why the answer ended."""
    reasons = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
    if done.finish_reason == "stop" and done.stop:
        return {"stop_reason": "stop_sequence", "stop_sequence": done.stop}
    return {"stop_reason": reasons[done.finish_reason], "stop_sequence": None}


def message(answer: Answer) -> dict[str, Any]:
    """A whole answer."""
    content: list[dict[str, Any]] = []
    if answer.thoughts:
        thoughts = answer.thoughts
        signature = _signature(answer.request_id)
        content.append({"type": "thinking", "thinking": thoughts, "signature": signature})
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    for call in answer.done.tool_calls:
        content.append({**_tool_use(call["name"]), "input": json.loads(call["arguments"] or "{}")})
    return {
        **_head(answer.served, answer.request_id),
        "content": content,
        **_stopped(answer.done),
        "usage": _usage(answer.done),
    }


def _head(served: Served, request_id: str) -> dict[str, Any]:
    return {
        "id": f"msg_{request_id}",
        "type": "message",
        "role": "assistant",
        "model": answered_by(served),
    }


def _tool_use(name: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex[:24]}", "name": name}


def _signature(request_id: str) -> str:
    """Clients send thoughts back only with one. Here it says nothing but who thought them."""
    return f"hub-{request_id}"


class Events:
    """The events of one stream: a block of thoughts and one of text while there are any, then one for
    each call."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._blocks = 0
        self._started = 0  # calls
        self._open = ""  # the kind of the block that has started

    def start(self) -> list[bytes]:
        started = self._stream.started
        message = {
            **_head(self._stream.served, started.request_id),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": started.prompt_tokens, "output_tokens": 0},
        }
        return [_event("message_start", message=message), _event("ping")]

    def chunk(self, index: int, chunk: Chunk) -> bytes:
        events = b""
        if chunk.thoughts:
            events = self._opened("thinking", {"thinking": "", "signature": ""})
            delta = {"type": "thinking_delta", "thinking": chunk.thoughts}
            events += _event("content_block_delta", index=self._blocks, delta=delta)
        for piece in chunk.calls:
            events += self._called(**piece)
        if not chunk.text:
            return events
        return (
            events
            + self._opened("text", {"text": ""})
            + (
                f'event: content_block_delta\ndata: {{"type": "content_block_delta", "index": '
                f'{self._blocks}, "delta": {{"type": "text_delta", "text": '
                f"{one_line(encode_basestring(chunk.text))}}}}}\n\n"
            ).encode()
        )

    def end(self, index: int, done: Done) -> list[bytes]:
        frames = []
        for number, call in enumerate(done.tool_calls):
            if number >= self._started:  # else its pieces were sent
                frames.append(self._called(number, **call))
        if self._open:
            frames.append(self._stop_block())
        frames.append(_event("message_delta", delta=_stopped(done), usage=_usage(done)))
        return [*frames, _event("message_stop")]

    def finish(self) -> list[bytes]:
        return []

    def fail(self, problem: HubError) -> bytes:
        return frame(failed(problem, error), event="error")

    def _called(self, number: int, name: str, arguments: str) -> bytes:
        """More of a call; its block ends with the next block, or with the message."""
        events = b""
        if number >= self._started:
            self._started = number + 1
            events = self._stop_block() if self._open else b""
            self._open = "tool_use"
            events += self._start_block({**_tool_use(name), "input": {}})
        if arguments:
            delta = {"type": "input_json_delta", "partial_json": arguments}
            events += _event("content_block_delta", index=self._blocks, delta=delta)
        return events

    def _opened(self, kind: str, empty: dict[str, Any]) -> bytes:
        """What begins a block of that kind, unless it is the one that has started."""
        if self._open == kind:
            return b""
        ended = self._stop_block() if self._open else b""
        self._open = kind
        return ended + self._start_block({"type": kind, **empty})

    def _start_block(self, block: dict[str, Any]) -> bytes:
        return _event("content_block_start", index=self._blocks, content_block=block)

    def _stop_block(self) -> bytes:
        signed = b""
        if self._open == "thinking":
            signature = _signature(self._stream.started.request_id)
            delta = {"type": "signature_delta", "signature": signature}
            signed = _event("content_block_delta", index=self._blocks, delta=delta)
        stopped = _event("content_block_stop", index=self._blocks)
        self._blocks += 1
        self._open = ""
        return signed + stopped


def _event(kind: str, **fields: Any) -> bytes:
    return frame({"type": kind, **fields}, event=kind)
