"""OpenAI's answers: whole bodies, and the chunks of a stream with all that repeats made once."""

from __future__ import annotations

import base64
import codecs
import json
import struct
import time
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from json.encoder import encode_basestring  # written in C; an encoder is not built for each token
from typing import Any

from backends.base import inputs
from inference.gateway.answer import Answer, Stream
from inference.gateway.generation import Embeddings
from inference.gateway.request import GenerationRequest, answered_by
from inference.gateway.streaming import frame, json_text, one_line
from inference.protocol import Called, Chunk, Done, Read, ReadToken, TokenInfo
from inference.v1.errors import failed
from inference.v1.logprobs import described
from registry.errors import HubError
from registry.promotion.resolve import Served


def error(
    status: int, message: str, code: str | None = None, param: str | None = None, **more: Any
) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    kind = "rate_limit_error" if status == 429 else kind
    return {"error": {"message": message, "type": kind, "param": param, "code": code, **more}}


def _head(kind: str, prefix: str, served: Served, request_id: str) -> dict[str, Any]:
    """The fields that every body and chunk of one answer starts with."""
    row = served.version or served.base
    return {
        "id": f"{prefix}-{request_id}",
        "object": kind,
        "created": int(time.time()),
        "model": answered_by(served),
        "system_fingerprint": f"fp_{row.manifest_sha256[:12]}",  # these weights and no others
    }


def _usage(ends: Iterable[tuple[int, Done]], n: int) -> dict[str, Any]:
    """Tokens of all answers. A prompt counts once, however many (`n`) answer it; `ends` has each
    answer's number with its end."""
    ends = list(ends)
    leaders = [done for index, done in ends if index % n == 0]
    prompt = sum(done.prompt_tokens for done in leaders)
    completion = sum(done.completion_tokens for _, done in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(done.cached_tokens for done in leaders)},
        "completion_tokens_details": {
            "reasoning_tokens": sum(done.thought_tokens for _, done in ends)
        },
    }


# --------------------------------------------------------------------------- whole answers


def chat_completion(answers: Sequence[Answer], request: GenerationRequest) -> dict[str, Any]:
    choices = []
    for index, answer in enumerate(answers):
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
        if answer.thoughts:
            message["reasoning_content"] = answer.thoughts
        if answer.done.tool_calls:
            message["content"] = answer.text or None
            message["tool_calls"] = _tool_calls(answer.done.tool_calls, _custom(request))
        logprobs = _chat_logprobs(answer.logprobs) if request.sampling.logprobs else None
        choices.append(
            {
                "index": index,
                "message": message,
                "logprobs": logprobs,
                "finish_reason": answer.done.finish_reason,
            }
        )
    head = _head("chat.completion", "chatcmpl", answers[0].served, answers[0].request_id)
    ends = enumerate(answer.done for answer in answers)
    return {**head, "choices": choices, "usage": _usage(ends, request.n)}


def text_completion(
    answers: Sequence[Answer], request: GenerationRequest, echo: bool
) -> dict[str, Any]:
    """With `echo` the prompts come before their answers."""
    choices = []
    for index, answer in enumerate(answers):
        said = _prompt_text(request, index, answer.prompt_text) if echo else ""
        logprobs = None
        if request.sampling.logprobs:
            logprobs = _text_logprobs([*answer.prompt, *answer.logprobs], Places(said))
        choices.append(
            {
                "index": index,
                "text": said + answer.text,
                "logprobs": logprobs,
                "finish_reason": answer.done.finish_reason,
            }
        )
    head = _head("text_completion", "cmpl", answers[0].served, answers[0].request_id)
    ends = enumerate(answer.done for answer in answers)
    return {**head, "choices": choices, "usage": _usage(ends, request.n)}


def embeddings(made: Embeddings, *, base64_encoded: bool) -> dict[str, Any]:
    def encoded(vector: Sequence[float]) -> Sequence[float] | str:
        if not base64_encoded:
            return vector
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()

    data = [
        {"object": "embedding", "index": index, "embedding": encoded(vector)}
        for index, vector in enumerate(made.vectors)
    ]
    usage = {"prompt_tokens": made.prompt_tokens, "total_tokens": made.prompt_tokens}
    return {"object": "list", "data": data, "model": answered_by(made.served), "usage": usage}


def _custom(request: GenerationRequest) -> set[str]:
    """The names of its custom tools."""
    return {tool["function"]["name"] for tool in request.tools if inputs.CUSTOM in tool}


def _tool_calls(calls: Iterable[Called], custom: Collection[str]) -> list[dict[str, Any]]:
    return [_tool_call(call, call["name"] in custom) for call in calls]


def _tool_call(call: Called, is_custom: bool) -> dict[str, Any]:
    kind = "custom" if is_custom else "function"
    said: Mapping[str, Any] = call
    if is_custom:
        said = {"name": call["name"], "input": inputs.text_in(call["arguments"])}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": kind, kind: dict(said)}


def _chat_logprobs(tokens: Iterable[TokenInfo]) -> dict[str, Any]:
    return {"content": described(tokens), "refusal": None}


def _prompt_text(request: GenerationRequest, index: int, read: str) -> str:
    """The prompt of answer `index`; `read` is what the engine says when it came as tokens."""
    prompt = request.prompt_of(index)
    return prompt if isinstance(prompt, str) else read


class Places:
    """Where each token begins in the text of one choice, in characters. `prompt` is the text that
    comes before the answer."""

    def __init__(self, prompt: str = "") -> None:
        self._ahead = prompt.encode()  # until the first token of it
        self._at = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def next(self, token: TokenInfo | ReadToken) -> int:
        at, data = self._at, bytes(token["bytes"])
        if self._ahead and not self._ahead.startswith(data):
            # What a tokenizer puts before every text: a token of its own, or a space.
            data = data[1:] if data[:1] == b" " and self._ahead.startswith(data[1:]) else b""
        if data:
            self._ahead = b""
        self._at += len(self._decoder.decode(data))
        return at


def _text_logprobs(tokens: Sequence[TokenInfo | ReadToken], places: Places) -> dict[str, Any]:
    """The old form."""
    return {
        "tokens": [_name(token["text"], token["bytes"]) for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [_rivals(token) for token in tokens],
        "text_offset": [places.next(token) for token in tokens],
    }


def _rivals(token: TokenInfo | ReadToken) -> dict[str, float] | None:
    """By name, and the token itself among them, as at OpenAI; null for the first of a prompt."""
    logprob = token["logprob"]
    if logprob is None:
        return None
    named: dict[str, float] = {}
    for text, value, data in token["top"]:
        named.setdefault(_name(text, data), value)  # the likeliest of those that read the same
    if named:
        named.setdefault(_name(token["text"], token["bytes"]), logprob)
    return named


def _name(text: str, data: Sequence[int]) -> str:
    """Parts of characters are named by their bytes, as at OpenAI: as texts they would all be one."""
    if "\ufffd" not in text or text.encode() == bytes(data):
        return text
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


# --------------------------------------------------------------------------- streams


class ChatChunks:
    """The chunks of one stream as server-sent events.

    A chunk of plain text is three byte strings joined, two of which are made once for each answer:
    a stream's cost is that of its tokens.
    """

    _kind, _prefix = "chat.completion.chunk", "chatcmpl"
    _opening, _closing = '"delta": {"content": ', "}"
    _empty: dict[str, Any] = {"delta": {}, "logprobs": None, "finish_reason": None}

    def __init__(self, stream: Stream, request: GenerationRequest, include_usage: bool) -> None:
        head = _head(self._kind, self._prefix, stream.served, stream.started.request_id)
        self._request = request
        self._started = [0] * request.answers  # calls of each answer
        self._custom = _custom(request)
        self._include_usage = include_usage
        self._ends: list[tuple[int, Done]] = []
        self._head = json_text(head)[:-1]
        # With include_usage every chunk has the key, null but in the last.
        self._tail = ', "usage": null}\n\n' if include_usage else "}\n\n"
        self._before = [
            f'data: {self._head}, "choices": [{{"index": {index}, {self._opening}'.encode()
            for index in range(request.answers)
        ]
        after = f'{self._closing}, "logprobs": null, "finish_reason": null}}]{self._tail}'
        self._after = after.encode()

    def start(self) -> list[bytes]:
        role = {"role": "assistant", "content": ""}
        return [self._choice(index, delta=role) for index in range(self._request.answers)]

    def chunk(self, index: int, chunk: Chunk) -> bytes:
        before = b""
        if chunk.thoughts:
            before = self._choice(index, delta={"reasoning_content": chunk.thoughts})
        for piece in chunk.calls:
            before += self._called(index, **piece)
        if chunk.logprobs is not None:
            logprobs = _chat_logprobs(chunk.logprobs)
            return before + self._choice(index, delta={"content": chunk.text}, logprobs=logprobs)
        return before + self._text(index, chunk.text) if chunk.text else before

    def end(self, index: int, done: Done) -> list[bytes]:
        self._ends.append((index, done))
        deltas = []
        for number, call in enumerate(done.tool_calls):
            if number < self._started[index]:
                continue  # its pieces were sent
            if call["name"] in self._custom:
                deltas.append(self._whole(index, number, call))
                continue
            deltas += [
                self._called(index, number, call["name"]),
                self._called(index, number, arguments=call["arguments"]),
            ]
        return [*deltas, self._choice(index, finish_reason=done.finish_reason)]

    def _called(self, index: int, number: int, name: str = "", arguments: str = "") -> bytes:
        """As OpenAI sends it: who is called, then what with. The input of a custom tool is known with
        the last of its arguments only: it, and for their order all after it, come whole."""
        if number < self._started[index]:
            call = {"index": number, "function": {"arguments": arguments}}
            return self._choice(index, delta={"tool_calls": [call]})
        if number > self._started[index] or not name or name in self._custom:
            return b""
        return self._whole(index, number, {"name": name, "arguments": arguments})

    def _whole(self, index: int, number: int, call: Called) -> bytes:
        self._started[index] = number + 1
        made = _tool_call(call, call["name"] in self._custom)
        return self._choice(index, delta={"tool_calls": [{"index": number, **made}]})

    def finish(self) -> list[bytes]:
        done = frame("[DONE]")
        if not self._include_usage:
            return [done]
        usage = json.dumps(_usage(self._ends, self._request.n))
        return [f'data: {self._head}, "choices": [], "usage": {usage}}}\n\n'.encode(), done]

    def fail(self, problem: HubError) -> bytes:
        return frame(failed(problem, error))

    def _text(self, index: int, text: str) -> bytes:
        return self._before[index] + one_line(encode_basestring(text)).encode() + self._after

    def _choice(self, index: int, **fields: Any) -> bytes:
        """Any other chunk."""
        choices = json_text([{"index": index, **self._empty, **fields}])
        return f'data: {self._head}, "choices": {choices}{self._tail}'.encode()


class TextChunks(ChatChunks):
    """The same for plain completions. With `echo` the prompts come before their answers."""

    _kind, _prefix = "text_completion", "cmpl"
    _opening, _closing = '"text": ', ""
    _empty: dict[str, Any] = {"text": "", "logprobs": None, "finish_reason": None}

    def __init__(
        self,
        stream: Stream,
        request: GenerationRequest,
        include_usage: bool,
        echo: bool,
    ) -> None:
        super().__init__(stream, request, include_usage)
        self._echo = echo
        answers = range(request.answers)
        self._echoed = [_prompt_text(request, n, "") if echo else "" for n in answers]
        self._places = [Places(echoed) for echoed in self._echoed]

    def start(self) -> list[bytes]:
        return [self._text(index, text) for index, text in enumerate(self._echoed) if text]

    def read(self, index: int, read: Read) -> bytes:
        if read.text and self._echo:
            self._places[index] = Places(read.text)
            return self._text(index, read.text)
        if read.logprobs is None:
            return b""
        return self._choice(index, logprobs=_text_logprobs(read.logprobs, self._places[index]))

    def chunk(self, index: int, chunk: Chunk) -> bytes:
        if chunk.logprobs is None:
            return self._text(index, chunk.text)
        logprobs = _text_logprobs(chunk.logprobs, self._places[index])
        return self._choice(index, text=chunk.text, logprobs=logprobs)
