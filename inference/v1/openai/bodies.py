"""OpenAI's answers: whole bodies, and the chunks of a stream with all that repeats made once."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring  # written in C; an encoder is not built for each token
from typing import Any

from inference.gateway.answers import Answer
from inference.gateway.generation import answerer
from inference.protocol import Called, Chunk, Done, TokenInfo
from registry.promotion.resolve import Name, Served

CHAT, TEXT = "chat.completion", "text_completion"
_PREFIXES = {CHAT: "chatcmpl", TEXT: "cmpl"}


def head(kind: str, request_id: str, served: Served) -> dict[str, Any]:
    """What every body and chunk of one answer begins with."""
    row = served.version or served.base
    return {
        "id": f"{_PREFIXES[kind]}-{request_id}",
        "object": kind,
        "created": int(time.time()),
        "model": answerer(served),
        "system_fingerprint": f"fp_{row.manifest_sha256[:12]}",  # these weights and no others
    }


def model(name: Name) -> dict[str, Any]:
    return {
        "id": name.label,
        "object": "model",
        "created": int(name.created_at.timestamp()),
        "owned_by": "mlx-model-hub",
    }


def usage(ends: Sequence[tuple[int, Done]], rows: int) -> dict[str, Any]:
    """Tokens of all rows. A prompt counts once, however many rows (`rows` of each) answer it;
    `ends` has each row's number with its end."""
    leaders = [done for row, done in ends if row % rows == 0]
    prompt = sum(done.prompt_tokens for done in leaders)
    completion = sum(done.completion_tokens for _, done in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(done.cached_tokens for done in leaders)},
    }


# --------------------------------------------------------------------------- chat


def chat_choice(index: int, answer: Answer, *, logprobs: bool, calls: list[Called]) -> Any:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if calls:
        message["content"] = answer.text or None
        message["tool_calls"] = tool_calls(calls)
    return {
        "index": index,
        "message": message,
        "logprobs": chat_logprobs(answer.logprobs) if logprobs else None,
        "finish_reason": answer.ended.finish_reason,
    }


def tool_calls(calls: Iterable[Called]) -> list[dict[str, Any]]:
    return [
        {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": dict(call)}
        for call in calls
    ]


def chat_logprobs(tokens: Iterable[TokenInfo]) -> dict[str, Any]:
    content = [
        {
            **_logprob(token["text"], token["logprob"]),
            "top_logprobs": [_logprob(text, logprob) for text, logprob in token["top"]],
        }
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _logprob(text: str, logprob: float) -> dict[str, Any]:
    # Half a character has no bytes of its own that could be told.
    told = None if "\ufffd" in text else list(text.encode())
    return {"token": text, "logprob": logprob, "bytes": told}


# --------------------------------------------------------------------------- plain text


def text_choice(index: int, answer: Answer, *, echo: str, logprobs: bool) -> dict[str, Any]:
    return {
        "index": index,
        "text": echo + answer.text,
        "logprobs": text_logprobs(answer.logprobs, 0) if logprobs else None,
        "finish_reason": answer.ended.finish_reason,
    }


def text_logprobs(tokens: Sequence[TokenInfo], offset: int) -> dict[str, Any]:
    """The old form. `offset` is the number of characters before the first of `tokens`."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token["text"])
    return {
        "tokens": [token["text"] for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [dict(token["top"]) for token in tokens],
        "text_offset": offsets,
    }


# --------------------------------------------------------------------------- streams


class Frames:
    """The chunks of one stream as server-sent events.

    A chunk of plain text is three byte strings joined, two of which are made once for each row:
    a stream's cost is that of its tokens.
    """

    def __init__(self, fields: dict[str, Any], rows: int, *, include_usage: bool) -> None:
        self._head = json.dumps(fields, ensure_ascii=False)[:-1]
        # With include_usage every chunk has the key, null but in the last.
        self._tail = ', "usage": null}\n\n' if include_usage else "}\n\n"
        self._prefixes = [
            f'data: {self._head}, "choices": [{{"index": {row}, {self._opening}'.encode()
            for row in range(rows)
        ]
        self._suffix = f'{self._closing}, "logprobs": null, "finish_reason": null}}]{self._tail}'
        self._suffix_bytes = self._suffix.encode()

    _opening = '"delta": {"content": '
    _closing = "}"

    def text(self, row: int, text: str) -> bytes:
        return self._prefixes[row] + encode_basestring(text).encode() + self._suffix_bytes

    def choice(self, row: int, **fields: Any) -> bytes:
        """Any other chunk."""
        choice = {"index": row, **self._empty(), **fields}
        choices = json.dumps([choice], ensure_ascii=False)
        return f'data: {self._head}, "choices": {choices}{self._tail}'.encode()

    def usage(self, counted: dict[str, Any]) -> bytes:
        return f'data: {self._head}, "choices": [], "usage": {json.dumps(counted)}}}\n\n'.encode()

    def _empty(self) -> dict[str, Any]:
        return {"delta": {}, "logprobs": None, "finish_reason": None}

    def begin(self, row: int) -> list[bytes]:
        return [self.choice(row, delta={"role": "assistant", "content": ""})]

    def chunk(self, row: int, chunk: Chunk) -> bytes:
        if chunk.logprobs is None:
            return self.text(row, chunk.text)
        return self.choice(
            row, delta={"content": chunk.text}, logprobs=chat_logprobs(chunk.logprobs)
        )

    def end(self, row: int, done: Done, calls: list[Called]) -> list[bytes]:
        deltas = []
        for index, call in enumerate(tool_calls(calls)):
            # As OpenAI sends it: who is called, then what with.
            arguments = call["function"]["arguments"]
            named = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
            deltas.append(self.choice(row, delta={"tool_calls": [named]}))
            rest = {"index": index, "function": {"arguments": arguments}}
            deltas.append(self.choice(row, delta={"tool_calls": [rest]}))
        return [*deltas, self.choice(row, finish_reason=done.finish_reason)]


class TextFrames(Frames):
    """The same for plain completions. `echoes` are the prompts, by row, to be said first."""

    _opening = '"text": '
    _closing = ""

    def __init__(
        self, fields: dict[str, Any], rows: int, *, include_usage: bool, echoes: Sequence[str]
    ) -> None:
        super().__init__(fields, rows, include_usage=include_usage)
        self._echoes = echoes
        self._said = [0] * rows  # characters, for the offsets of logprobs

    def _empty(self) -> dict[str, Any]:
        return {"text": "", "logprobs": None, "finish_reason": None}

    def begin(self, row: int) -> list[bytes]:
        return [self.text(row, self._echoes[row])] if self._echoes[row] else []

    def chunk(self, row: int, chunk: Chunk) -> bytes:
        if chunk.logprobs is None:
            return self.text(row, chunk.text)
        told = text_logprobs(chunk.logprobs, self._said[row])
        self._said[row] += sum(len(token["text"]) for token in chunk.logprobs)
        return self.choice(row, text=chunk.text, logprobs=told)


def error(
    status: int, message: str, code: str | None, param: str | None = None, **more: Any
) -> dict[str, Any]:
    """`more` goes beside them, such as what was generated in vain."""
    kind = {429: "rate_limit_error", 401: "authentication_error"}.get(status)
    kind = kind or ("server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code, **more}}
