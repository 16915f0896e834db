"""Anthropic's answers: whole messages, and the events of a stream."""

from __future__ import annotations

import json
import uuid
from json.encoder import encode_basestring  # written in C; an encoder is not built for each token
from typing import Any

from inference.gateway.answer import Answer, Stream
from inference.gateway.record import correlation_id
from inference.gateway.request import answered_by
from inference.gateway.streaming import frame
from inference.protocol import Called, Chunk, Done
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
    content: list[dict[str, Any]] = [{"type": "text", "text": answer.text}] if answer.text else []
    for call in answer.done.tool_calls:
        content.append({**_tool_use(call), "input": json.loads(call["arguments"] or "{}")})
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


def _tool_use(call: Called) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex[:24]}", "name": call["name"]}


class Events:
    """The events of one stream: a text block while there is text, then one for each call."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._blocks = 0
        self._open = False

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
        opening = b"" if self._open else self._start_block({"type": "text", "text": ""})
        self._open = True
        return (
            opening
            + (
                f'event: content_block_delta\ndata: {{"type": "content_block_delta", "index": '
                f'{self._blocks}, "delta": {{"type": "text_delta", "text": '
                f"{encode_basestring(chunk.text)}}}}}\n\n"
            ).encode()
        )

    def end(self, index: int, done: Done) -> list[bytes]:
        frames = [self._stop_block()] if self._open else []
        for call in done.tool_calls:
            frames.append(self._start_block({**_tool_use(call), "input": {}}))
            delta = {"type": "input_json_delta", "partial_json": call["arguments"]}
            frames.append(_event("content_block_delta", index=self._blocks, delta=delta))
            frames.append(self._stop_block())
        frames.append(_event("message_delta", delta=_stopped(done), usage=_usage(done)))
        return [*frames, _event("message_stop")]

    def finish(self) -> list[bytes]:
        return []

    def fail(self, problem: HubError) -> bytes:
        return frame(failed(problem, error), event="error")

    def _start_block(self, block: dict[str, Any]) -> bytes:
        return _event("content_block_start", index=self._blocks, content_block=block)

    def _stop_block(self) -> bytes:
        stopped = _event("content_block_stop", index=self._blocks)
        self._blocks += 1
        self._open = False
        return stopped


def _event(kind: str, **fields: Any) -> bytes:
    return frame({"type": kind, **fields}, event=kind)
