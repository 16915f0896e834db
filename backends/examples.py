"""Training examples as they stand in a JSONL file: one rule for every backend.

Knows the formats of mlx-lm ("messages" with or without tools, "prompt"/"completion", "text"),
preferences ("prompt", "chosen", "rejected") and labelled answers ("prompt", "completion", "label"),
and nothing of tokens or models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backends.base import BadExample, Learn

# Why an answer is not learned although its example is, as the end of a sentence.
REWRITTEN = (
    "the chat template writes an answer differently once other messages follow, for example without "
    "its thoughts"
)
STRIPPED = (
    "the chat template leaves out or rewrites the thoughts of an answer that others follow; set thoughts to dropped "
    "to learn such answers without them"
)
UNASKED = "the chat template writes what comes before an answer differently when the model is asked for it"
UNSPLIT = (
    "the tokens before an answer are others than when the model is asked for it, because white space "
    "around its beginning is joined"
)
EMPTY = "the answer is empty"
BAD = "its label says that it is bad"
OVERRULED = "the setting learn is everything, which ignores weights"


@dataclass(frozen=True)
class Split[T]:
    """The usable examples of one file. `truncated` had to be cut; `dropped` had nothing left to learn.
    `notes` counts the answers that are not learned, or are learned, against the setting, by reason."""

    examples: Sequence[T]
    truncated: int
    dropped: int
    notes: dict[str, int] = field(default_factory=dict)


def read_jsonl[T](
    path: Path,
    parse: Callable[[Any, int], T],
    fit: Callable[[T], tuple[T | None, bool]],
) -> Split[T]:
    """The examples of the JSON-lines file `path`: `parse` makes one from a line's value and number,
    `fit` cuts it to length (None: nothing is left) and returns whether it was too long.

    Raises BadExample, which names the file and the line.
    """
    examples: list[T] = []
    truncated = dropped = 0
    for parsed in read_lines(path, parse):
        example, long = fit(parsed)
        truncated += long
        if example is None:
            dropped += 1
        else:
            examples.append(example)
    if not examples:
        raise no_example(path.name, dropped)
    return Split(examples, truncated, dropped)


def read_lines[T](path: Path, parse: Callable[[Any, int], T]) -> Iterator[T]:
    """What `parse` makes of each line's value and number, one after the other. Raises BadExample, which
    names the file and the line."""
    for number, line in _lines(path):
        try:
            yield parse(json.loads(line), number)
        except (ValueError, TypeError, KeyError) as error:
            raise BadExample(f"{path.name}, line {number}: {reason(error)}.") from None


def no_example(name: str, dropped: int) -> BadExample:
    """The error of a file `name` without a usable example, of which `dropped` had nothing to learn."""
    return BadExample(
        f"{name} has no usable example"
        + (
            " within max_seq_length, or every answer has weight 0 or is labelled bad; raise them."
            if dropped
            else "; it is empty."
        )
    )


def conversation(value: Any) -> str | list[dict[str, Any]]:
    """A plain text, or the messages of a chat whose last one is the assistant's answer (a text, or
    tool calls). Raises ValueError and KeyError for anything else."""
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if "chosen" in value or "rejected" in value:
        raise ValueError(
            "has a chosen and a rejected answer; use the objective dpo, orpo, simpo or kto"
        )
    if is_labelled(value):
        raise ValueError("has an answer that is labelled good or bad; use the objective kto")
    if "messages" in value:
        messages = value["messages"]
    elif "prompt" in value:
        messages = [
            {"role": "user", "content": value["prompt"]},
            {"role": "assistant", "content": value["completion"]},
        ]
    elif "text" in value:
        if not isinstance(value["text"], str):
            raise ValueError('"text" must be a text')
        return value["text"]
    else:
        raise ValueError('needs "messages", "prompt" and "completion", or "text"')
    if not isinstance(messages, list) or len(messages) < 2:
        raise ValueError("needs a request and an answer")
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise ValueError('every message needs a "role" and a text "content"')
        if message.get("role") == "assistant" and message.get("weight") not in (None, 0, 1):
            raise ValueError('the "weight" of an assistant message must be 0 (not learned) or 1')
    answer = messages[-1]
    if answer.get("role") != "assistant":
        raise ValueError("the last message must be the assistant's")
    if not answer.get("tool_calls") and not answer["content"].strip():
        raise ValueError("the assistant's answer is empty")
    return messages


def is_learned(message: Mapping[str, Any]) -> bool:
    """False for an assistant's message of weight 0, as in OpenAI's chats."""
    return message.get("role") != "assistant" or message.get("weight") != 0


def unweighted(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages without "weight", which is for training alone: no template may see it."""
    return [
        {key: held for key, held in message.items() if key != "weight"}
        if "weight" in message
        else message
        for message in messages
    ]


def explained(split: str, notes: Mapping[str, int]) -> list[str]:
    """A sentence for each of a split's notes."""
    sentences = []
    for why, count in notes.items():
        answers, are = ("1 answer", "is") if count == 1 else (f"{count:,} answers", "are")
        what = (
            f"of weight 0 {are} learned all the same" if why == OVERRULED else f"{are} not learned"
        )
        sentences.append(f"In {split}, {answers} {what}: {why}.")
    return sentences


def as_chat(value: Any, answer: str = "chosen") -> dict[str, Any]:
    """A preference as the chat that ends in one of its answers.

    The request is "prompt" (a text or messages) or "messages". Raises ValueError.
    """
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    request = value.get("prompt", value.get("messages"))
    if request is None or "chosen" not in value or "rejected" not in value:
        raise ValueError('needs "prompt", "chosen" and "rejected"; or use the objective sft')
    return _answered(value, request, value[answer])


def is_labelled(value: Mapping[str, Any]) -> bool:
    """Whether it is an answer with a label of good or bad."""
    return "completion" in value and isinstance(value.get("label"), bool)


def judged(value: Any) -> list[tuple[dict[str, Any], bool]]:
    """The answers of a labelled example, or of a preference, as the chats that end in them, and
    whether each is good. Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    if "chosen" in value or "rejected" in value:
        return [(as_chat(value), True), (as_chat(value, "rejected"), False)]
    if "prompt" not in value or not is_labelled(value):
        raise ValueError(
            'needs "prompt", "completion" and a "label" of true or false, or "prompt", "chosen" and '
            '"rejected"; or use the objective sft'
        )
    return [(_answered(value, value["prompt"], value["completion"]), value["label"])]


def _answered(value: Mapping[str, Any], request: Any, answer: Any) -> dict[str, Any]:
    """The chat of a request and its answer, each a text or messages. Raises ValueError."""
    asked = _messages(request, "user")
    if not asked:
        raise ValueError("the prompt is empty")
    said = _messages(answer, "assistant")
    if said[: len(asked)] == asked:
        said = said[len(asked) :]  # many public sets repeat the request in each answer
    chat = {"messages": [*asked, *said]}
    return chat | ({"tools": value["tools"]} if value.get("tools") else {})


def good_answer(value: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """A labelled answer as the chat that ends in it, for learning good answers alone, and whether it
    is good. Raises ValueError."""
    ((chat, good),) = judged(value)
    return chat, good


def of_the_last(learn: Learn) -> Learn:
    """What is learned of an answer that is judged: what was answered before it is not."""
    return "last_answer" if learn == "answers" else learn


def reason(error: Exception) -> str:
    """Why an example cannot be used, without its place."""
    if isinstance(error, json.JSONDecodeError):
        return "not valid JSON"
    if isinstance(error, KeyError):
        return f"the field {error} is missing"
    return str(error).rstrip(".")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise BadExample(f"The data set has no {path.name}.") from None
    except UnicodeDecodeError:
        raise BadExample(f"{path.name} is not UTF-8 text.") from None
    return ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def _messages(value: Any, role: str) -> list[Any]:
    return value if isinstance(value, list) else [{"role": role, "content": value}]
