"""Anthropic's answers: whole messages, and the events of a stream."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from json.encoder import encode_basestring  # written in C; an encoder is not built for each token
from typing import Any

from inference.gateway.generation import answerer
from inference.gateway.streaming import frame
from inference.protocol import Called, Done, Started
from registry.promotion.resolve import Name, Served

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


def error(status: int, message: str, request_id: str, **more: Any) -> dict[str, Any]:
    """`more` goes beside the message, such as what was generated in vain."""
    kind = _KINDS.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": message, **more},
        "request_id": request_id,
    }


def model(name: Name) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name.label,
        "display_name": f"{name.model}@{name.version}" if name.version else name.label,
        "created_at": name.created_at.isoformat(),
        "lifecycle": "active",
    }


def models(names: Sequence[Name]) -> dict[str, Any]:
    """All of them: there is no second page."""
    return {
        "data": [model(name) for name in names],
        "first_id": names[0].label if names else None,
        "last_id": names[-1].label if names else None,
        "has_more": False,
    }


def usage(done: Done) -> dict[str, int]:
    """`input_tokens` are those that were computed; the others were in the prefix cache."""
    return {
        "input_tokens": done.prompt_tokens - done.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": done.cached_tokens,
        "output_tokens": done.completion_tokens,
    }


def stopped(done: Done) -> dict[str, Any]:
    """Why the answer ended."""
    reasons = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
    if done.finish_reason == "stop" and done.stop:
        return {"stop_reason": "stop_sequence", "stop_sequence": done.stop}
    return {"stop_reason": reasons[done.finish_reason], "stop_sequence": None}


def message(served: Served, request_id: str, text: str, done: Done, calls: list[Called]) -> Any:
    """A whole answer."""
    content: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    for call in calls:
        content.append({**_tool_use(call), "input": json.loads(call["arguments"] or "{}")})
    return {**_head(served, request_id), "content": content, **stopped(done), "usage": usage(done)}


def _head(served: Served, request_id: str) -> dict[str, Any]:
    return {
        "id": f"msg_{request_id}",
        "type": "message",
        "role": "assistant",
        "model": answerer(served),
    }


def _tool_use(call: Called) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex[:24]}", "name": call["name"]}


class Events:
    """The events of one stream: a text block while there is text, then one for each call."""

    def __init__(self) -> None:
        self._blocks = 0
        self._open = False

    def begin(self, served: Served, started: Started) -> list[bytes]:
        begun = {
            **_head(served, started.request_id),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": started.prompt_tokens, "output_tokens": 0},
        }
        return [_event("message_start", message=begun), _event("ping")]

    def text(self, text: str) -> bytes:
        """The next piece of the answer."""
        opening = b"" if self._open else self._start({"type": "text", "text": ""})
        self._open = True
        return (
            opening
            + (
                f'event: content_block_delta\ndata: {{"type": "content_block_delta", "index": '
                f'{self._blocks}, "delta": {{"type": "text_delta", "text": {encode_basestring(text)}}}}}'
                "\n\n"
            ).encode()
        )

    def end(self, done: Done, calls: list[Called]) -> list[bytes]:
        frames = [self._stop()] if self._open else []
        for call in calls:
            frames.append(self._start({**_tool_use(call), "input": {}}))
            delta = {"type": "input_json_delta", "partial_json": call["arguments"]}
            frames.append(_event("content_block_delta", index=self._blocks, delta=delta))
            frames.append(self._stop())
        frames.append(_event("message_delta", delta=stopped(done), usage=usage(done)))
        return [*frames, _event("message_stop")]

    def _start(self, block: dict[str, Any]) -> bytes:
        return _event("content_block_start", index=self._blocks, content_block=block)

    def _stop(self) -> bytes:
        stopped = _event("content_block_stop", index=self._blocks)
        self._blocks += 1
        self._open = False
        return stopped


def _event(kind: str, **fields: Any) -> bytes:
    return frame({"type": kind, **fields}, event=kind)


def failed(told: dict[str, Any]) -> bytes:
    """A stream's last event, when it has begun already."""
    return frame(told, event="error")
