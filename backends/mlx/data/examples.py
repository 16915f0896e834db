"""Training examples: from JSON lines to tokens.

Knows the formats of mlx-lm ("messages" with or without tools, "prompt"/"completion", "text") and
nothing of models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import BadExample


@dataclass(frozen=True)
class Example:
    """`tokens[start:]` are what the model must learn to say after `tokens[:start]`."""

    tokens: list[int]
    start: int
    line: int = 0  # in its file, from 1

    @property
    def length(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Split[T]:
    """The usable examples of one file. `truncated` had to be cut; `dropped` had no answer left."""

    examples: list[T]
    truncated: int
    dropped: int


def read_split(
    path: Path, tokenizer: Any, max_seq_length: int, mask_prompt: bool
) -> Split[Example]:
    """Tokenize the JSON-lines file `path`. Raises BadExample, which names the file and the line."""

    def parse(value: Any, line: int) -> Example:
        example = example_of(value, tokenizer, mask_prompt)
        return Example(example.tokens, example.start, line)

    def fit(example: Example) -> tuple[Example | None, bool]:
        return cut(example, max_seq_length), example.length > max_seq_length

    return collect(path, parse, fit)


def collect[T](
    path: Path,
    parse: Callable[[Any, int], T],
    fit: Callable[[T], tuple[T | None, bool]],
) -> Split[T]:
    """The examples of `path`: `parse` makes one of a line's value and number, `fit` cuts it to
    length and says whether it had to. Raises BadExample."""
    examples: list[T] = []
    truncated = dropped = 0
    for number, line in _lines(path):
        try:
            parsed = parse(json.loads(line), number)
        except (ValueError, TypeError, KeyError) as error:
            raise BadExample(f"{path.name}, line {number}: {reason(error)}.") from None
        example, long = fit(parsed)
        truncated += long
        if example is None:
            dropped += 1
        else:
            examples.append(example)
    if not examples:
        raise BadExample(
            f"{path.name} has no usable example"
            + (" within max_seq_length; raise it." if dropped else "; it is empty.")
        )
    return Split(examples, truncated, dropped)


def cut(example: Example, limit: int) -> Example | None:
    """`example` without the tokens beyond `limit`; None when no answer is left."""
    if example.start >= min(example.length, limit):
        return None
    return Example(example.tokens[:limit], example.start, example.line)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise BadExample(f"The data set has no {path.name}.") from None
    except UnicodeDecodeError:
        raise BadExample(f"{path.name} is not UTF-8 text.") from None
    return ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def reason(error: Exception) -> str:
    """Why an example cannot be used, without its place."""
    if isinstance(error, json.JSONDecodeError):
        return "not valid JSON"
    if isinstance(error, KeyError):
        return f"the field {error} is missing"
    return str(error).rstrip(".")


def example_of(value: Any, tokenizer: Any, mask_prompt: bool) -> Example:
    """The tokens of one example in any of the formats. Raises ValueError, TypeError and KeyError."""
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if "chosen" in value or "rejected" in value:
        raise ValueError("has a chosen and a rejected answer; take the objective dpo or orpo")
    if "messages" in value:
        prompt, answer = _chat(value["messages"], tokenizer, value.get("tools"))
    elif "prompt" in value:
        turns = [
            {"role": "user", "content": value["prompt"]},
            {"role": "assistant", "content": value["completion"]},
        ]
        prompt, answer = _chat(turns, tokenizer)
    elif "text" in value:
        tokens = list(tokenizer.encode(value["text"]))
        if not tokens or tokens[-1] not in tokenizer.eos_token_ids:
            tokens.append(tokenizer.eos_token_id)
        return Example(tokens, 1)
    else:
        raise ValueError('needs "messages", "prompt" and "completion", or "text"')
    return Example(prompt + answer, len(prompt) if mask_prompt else 1)


def _chat(messages: Any, tokenizer: Any, tools: Any = None) -> tuple[list[int], list[int]]:
    """(prompt, answer) tokens of a chat whose last message is the answer.

    The prompt is rendered by the very call that inference makes, and the answer is encoded by
    itself, as a model generates it: so both agree token for token with any template. An answer
    that calls a tool is what the template adds for it. `tools` are described to the template.
    """
    if not isinstance(messages, list) or len(messages) < 2:
        raise ValueError("needs a request and an answer")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise ValueError('every message needs a "role" and a text "content"')
    answer = messages[-1]
    if answer.get("role") != "assistant":
        raise ValueError("the last message must be the assistant's")
    described = {"tools": tools} if tools else {}
    if answer.get("tool_calls"):
        text = _called(messages, tokenizer, described)
    elif answer["content"].strip():
        text = answer["content"]
    else:
        raise ValueError("the assistant's answer is empty")
    prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, **described)
    spoken = tokenizer.encode(text, add_special_tokens=False)
    return list(prompt), [*spoken, *_ending(messages, text, tokenizer, described)]


def _called(messages: list[dict[str, Any]], tokenizer: Any, described: dict[str, Any]) -> str:
    """What the template writes for a last message that calls tools, without how it ends."""
    whole, silent = (
        tokenizer.apply_chat_template([*messages[:-1], last], tokenize=False, **described)
        for last in (messages[-1], {**messages[-1], "tool_calls": []})
    )
    if whole == silent:
        raise ValueError("the base model's chat template writes no tool calls")
    prompt = tokenizer.apply_chat_template(
        messages[:-1], tokenize=False, add_generation_prompt=True, **described
    )
    if not whole.startswith(prompt):
        raise ValueError("the base model's chat template writes earlier turns anew for tool calls")
    added = whole[len(prompt) :]
    ends = [tokenizer.decode([token]) for token in tokenizer.eos_token_ids]
    cuts = [added.rindex(end) for end in ends if end and end in added]
    text: str = added[: max(cuts)] if cuts else added
    return text


def _ending(
    messages: list[dict[str, Any]], text: str, tokenizer: Any, described: dict[str, Any]
) -> list[int]:
    """The tokens with which the template ends an answer, up to the one that stops generation."""
    whole = tokenizer.apply_chat_template(messages, tokenize=False, **described)
    _, _, tail = whole.rpartition(text.strip())
    tokens = tokenizer.encode(tail, add_special_tokens=False)
    for index, token in enumerate(tokens):
        if token in tokenizer.eos_token_ids:
            return list(tokens[: index + 1])
    return [tokenizer.eos_token_id]
