"""Ollama's answers: whole bodies, and the lines of a stream."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii  # in C; escapes what clients take for a line's end
from typing import Any

from inference.gateway.answer import Answer
from inference.gateway.generation import Embeddings
from inference.protocol import Called, Chunk, Done
from inference.v1.errors import failed
from inference.v1.logprobs import described
from registry.errors import HubError

LINES = "application/x-ndjson"
_NS = 1_000_000  # nanoseconds of a millisecond


def error(
    status: int, message: str, code: str | None = None, param: str | None = None, **more: Any
) -> dict[str, Any]:
    """Ollama has a sentence, and no place for `code` and `param`."""
    return {"error": message, **more}


def moment(when: datetime.datetime | None = None) -> str:
    return (when or datetime.datetime.now(datetime.UTC)).isoformat().replace("+00:00", "Z")


def _head(model: str) -> dict[str, Any]:
    return {"model": model, "created_at": moment()}


def _end(done: Done) -> dict[str, Any]:
    """How the answer ended and how long it took, in nanoseconds; waiting for a place among other
    requests counts as loading."""
    return {
        "done": True,
        "done_reason": "length" if done.finish_reason == "length" else "stop",
        "total_duration": int(done.total_ms * _NS),
        "load_duration": int(done.queue_ms * _NS),
        "prompt_eval_count": done.prompt_tokens,
        "prompt_eval_duration": int((done.first_token_ms - done.queue_ms) * _NS),
        "eval_count": done.completion_tokens,
        "eval_duration": int((done.total_ms - done.first_token_ms) * _NS),
    }


def _tool_calls(calls: Iterable[Called]) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{uuid.uuid4().hex[:24]}",
            "function": {
                "index": number,
                "name": call["name"],
                "arguments": json.loads(call["arguments"] or "{}"),
            },
        }
        for number, call in enumerate(calls)
    ]


# --------------------------------------------------------------------------- whole answers


def chat(model: str, answer: Answer) -> dict[str, Any]:
    return {**_whole(model, answer), "message": _message(answer), **_end(answer.done)}


def generate(model: str, answer: Answer) -> dict[str, Any]:
    said = {"response": answer.text}
    thought = {"thinking": answer.thoughts} if answer.thoughts else {}
    return {**_whole(model, answer), **said, **thought, **_end(answer.done)}


def _whole(model: str, answer: Answer) -> dict[str, Any]:
    logprobs = {"logprobs": described(answer.logprobs)} if answer.logprobs else {}
    return {**_head(model), **logprobs}


def _message(answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    if answer.thoughts:
        message["thinking"] = answer.thoughts
    if answer.done.tool_calls:
        message["tool_calls"] = _tool_calls(answer.done.tool_calls)
    return message


def loaded(model: str, said: dict[str, Any], reason: str, seconds: float) -> dict[str, Any]:
    """The answer to a request that only loads or unloads; `said` is an empty message or response."""
    took = int(seconds * 1e9)
    durations = {"total_duration": took, "load_duration": took} if reason == "load" else {}
    return {**_head(model), **said, "done": True, "done_reason": reason, **durations}


def embeddings(model: str, made: Embeddings | None, seconds: float) -> dict[str, Any]:
    """`made` is None when there was nothing to embed."""
    return {
        "model": model,
        "embeddings": made.vectors if made else [],
        "total_duration": int(seconds * 1e9),
        "load_duration": 0,
        "prompt_eval_count": made.prompt_tokens if made else 0,
    }


# --------------------------------------------------------------------------- streams


class ChatLines:
    """The lines of one chat; `model` is its name as the client wrote it."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._before = f'{{"model": {encode_basestring_ascii(model)}, "created_at": "'

    def start(self) -> list[bytes]:
        return []

    def chunk(self, index: int, chunk: Chunk) -> bytes:
        if chunk.logprobs is None and not chunk.thoughts:
            return self._text(chunk.text) if chunk.text else b""
        more = {} if chunk.logprobs is None else {"logprobs": described(chunk.logprobs)}
        return self._line(self._said(chunk.text, chunk.thoughts), done=False, **more)

    def end(self, index: int, done: Done) -> list[bytes]:
        lines = []
        if done.tool_calls:
            called = self._said("", "")
            called["message"]["tool_calls"] = _tool_calls(done.tool_calls)
            lines.append(self._line(called, done=False))
        return [*lines, self._line(self._said("", ""), **_end(done))]

    def finish(self) -> list[bytes]:
        return []

    def fail(self, problem: HubError) -> bytes:
        return _json_line(failed(problem, error))

    def _text(self, text: str) -> bytes:
        """The line of a plain piece of text, of which a stream has many."""
        return (
            f'{self._before}{moment()}", "message": {{"role": "assistant", "content": '
            f'{encode_basestring_ascii(text)}}}, "done": false}}\n'
        ).encode()

    def _said(self, text: str, thoughts: str) -> dict[str, Any]:
        thought = {"thinking": thoughts} if thoughts else {}
        return {"message": {"role": "assistant", "content": text, **thought}}

    def _line(self, said: dict[str, Any], **more: Any) -> bytes:
        return _json_line({**_head(self._model), **said, **more})


class GenerateLines(ChatLines):
    """The lines of one answer to a plain prompt."""

    def _text(self, text: str) -> bytes:
        said = f'"response": {encode_basestring_ascii(text)}, "done": false}}\n'
        return f'{self._before}{moment()}", {said}'.encode()

    def _said(self, text: str, thoughts: str) -> dict[str, Any]:
        return {"response": text, **({"thinking": thoughts} if thoughts else {})}


def _json_line(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode() + b"\n"
