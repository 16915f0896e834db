"""The fake's chat template and tokenizer, and how its answers write tool calls.

Words become numbers that only the process that made them can decode, but tools are spelled byte by byte, so that an answer
with a tool call depends on the prompt's tokens alone, as a model's does.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from typing import Any

from backends.base import BackendError, Message, ToolCall
from backends.base.call_pieces import HERMES, as_written
from backends.thoughts import OPEN

_BYTES = 60_000  # from here on a token is a byte of the description of tools
_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_seen: dict[int, str] = {}  # what a token stood for last


def encode(
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] | None = None,
    *,
    thinks: bool = False,
) -> list[int]:
    """The fake's chat template and tokenizer; with `thinks` the template opens the thoughts."""
    described = json.dumps(list(tools)).encode() if tools else b""
    turns = "".join(_turn(message) for message in messages)
    opening = f"<|assistant|>{OPEN if thinks else ''}"
    return [_BYTES + byte for byte in described] + encode_text(f"{turns}{opening}")


def thinks(prompt: Sequence[int]) -> bool:
    """Whether the template of `prompt` opened thoughts."""
    return list(prompt[-len(_THINKING) :]) == _THINKING


def unthinking(prompt: Sequence[int]) -> Sequence[int]:
    """The prompt without what opened the thoughts."""
    return prompt[: -len(encode_text(OPEN))]


def encode_text(text: str) -> list[int]:
    """One token per word or mark."""
    pieces = re.findall(r"\w+|\S", text)
    tokens = [1000 + zlib.crc32(piece.encode()) % 48000 for piece in pieces]
    _seen.update(zip(tokens, pieces, strict=True))
    return tokens


def decode(tokens: Sequence[int]) -> str:
    """The pieces that this process has encoded, with U+FFFD for the others."""
    return " ".join(_seen.get(token, "\ufffd") for token in tokens)


_THINKING = encode_text(f"<|assistant|>{OPEN}")


def answers(prompt: Sequence[int]) -> int:
    """How many answers are in the chat already."""
    mark = encode_text("<|assistant|>")
    return max(0, len(_parts(list(prompt), mark)) - 2)


def called_tool(prompt: Sequence[int]) -> dict[str, Any] | None:
    """The tool that the last turn of `prompt` is about: a user who names it, or says "call"."""
    described = bytes(token - _BYTES for token in prompt if token >= _BYTES)
    if not described:
        return None
    turns = _parts(list(prompt), encode_text("<|"))
    asked = turns[-2] if len(turns) > 1 else []
    if not asked or asked[: len(user := encode_text("user"))] != user:
        return None
    tools: list[dict[str, Any]] = json.loads(described)
    for tool in tools:
        if _contains(asked, encode_text(_function(tool)["name"])):
            return _function(tool)
    return _function(tools[0]) if _contains(asked, encode_text("call")) else None


def write_tool_call(name: str, arguments: Any) -> str:
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"{_OPEN}{body}{_CLOSE}"


def parse_tool_calls(text: str) -> tuple[str, list[ToolCall]]:
    """See `backends.base.LoadedModel.parse_tool_calls`."""
    rest, calls, left = "", [], text
    while _OPEN in left:
        before, _, left = left.partition(_OPEN)
        body, closed, left = left.partition(_CLOSE)
        rest += before
        try:
            call = json.loads(body)
            calls.append(ToolCall(call["name"], json.dumps(call["arguments"], ensure_ascii=False)))
        except (ValueError, KeyError, TypeError) as error:
            state = "cannot be read" if closed else "was cut off"
            raise BackendError(
                f"The answer begins a tool call that {state}: {body[:80]!r}; allow more tokens "
                "or ask again."
            ) from error
    return (rest + left).strip(), as_written(calls, text, HERMES) if calls else []


def _turn(message: Message) -> str:
    calls = message.get("tool_calls")
    called = json.dumps(calls) if calls else ""
    return f"<|{message['role']}|>{message.get('content') or ''}{called}\n"


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    function: dict[str, Any] = tool.get("function", tool)
    return function


def _contains(tokens: Sequence[int], wanted: Sequence[int]) -> bool:
    width = len(wanted)
    return any(list(tokens[n : n + width]) == list(wanted) for n in range(len(tokens) - width + 1))


def _parts(tokens: list[int], mark: list[int]) -> list[list[int]]:
    """`tokens` divided at every `mark`."""
    parts: list[list[int]] = [[]]
    position = 0
    while position < len(tokens):
        if tokens[position : position + len(mark)] == mark:
            parts.append([])
            position += len(mark)
        else:
            parts[-1].append(tokens[position])
            position += 1
    return parts
