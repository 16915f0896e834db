"""Training examples: from JSON lines to tokens, and from tokens to batches.

Knows the formats of mlx-lm ("messages" with or without tools, "prompt"/"completion", "text") and
nothing of models. Which examples a step sees is a pure function of (seed, iteration), so a resumed run
needs no stored position.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.base import BadExample

_WINDOW = 16  # batches whose examples are sorted by length together


@dataclass(frozen=True)
class Example:
    """`tokens[start:]` are what the model must learn to say after `tokens[:start]`."""

    tokens: list[int]
    start: int


@dataclass(frozen=True)
class Split:
    """The usable examples of one file. `truncated` had to be cut; `dropped` had no answer left."""

    examples: list[Example]
    truncated: int
    dropped: int


@dataclass(frozen=True)
class Batch:
    """Padded rows. `positions` index the flattened `[rows * length]` outputs that are judged.

    inputs `[rows, length]`, positions, targets and weights `[n]`; a weight is 0 on padding.
    """

    inputs: NDArray[np.int32]
    positions: NDArray[np.int32]
    targets: NDArray[np.int32]
    weights: NDArray[np.float32]
    tokens: int  # unpadded inputs
    judged: int  # targets that count


# ---------------------------------------------------------------- reading


def read_split(path: Path, tokenizer: Any, max_seq_length: int, mask_prompt: bool) -> Split:
    """Tokenize the JSON-lines file `path`. Raises BadExample, which names the file and the line."""
    examples: list[Example] = []
    truncated = dropped = 0
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            example = example_of(json.loads(line), tokenizer, mask_prompt)
        except (ValueError, TypeError, KeyError) as error:
            raise BadExample(f"{path.name}, line {number}: {reason(error)}.") from None
        truncated += len(example.tokens) > max_seq_length
        if example.start >= min(len(example.tokens), max_seq_length):
            dropped += 1
            continue
        examples.append(Example(example.tokens[:max_seq_length], example.start))
    if not examples:
        raise BadExample(
            f"{path.name} has no usable example"
            + (" within max_seq_length; raise it." if dropped else "; it is empty.")
        )
    return Split(examples, truncated, dropped)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise BadExample(f"The data set has no {path.name}.") from None
    except UnicodeDecodeError:
        raise BadExample(f"{path.name} is not UTF-8 text.") from None


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


# ---------------------------------------------------------------- batching


def steps_per_epoch(count: int, batch_size: int) -> int:
    return -(-count // batch_size)


def step_indices(
    lengths: Sequence[int], batch_size: int, seed: int, iteration: int
) -> Sequence[int]:
    """Which examples the optimizer step `iteration` (from 1) learns from."""
    per_epoch = steps_per_epoch(len(lengths), batch_size)
    epoch, index = divmod(iteration - 1, per_epoch)
    return _epoch(lengths, batch_size, seed, epoch)[index]


def _epoch(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Every example once: shuffled, then sorted by length within windows to save padding."""
    draw = random.Random(f"{seed}/{epoch}")  # noqa: S311 (an order, not a secret)
    order = list(range(len(lengths)))
    draw.shuffle(order)
    batches: list[list[int]] = []
    width = batch_size * _WINDOW
    for at in range(0, len(order), width):
        window = sorted(order[at : at + width], key=lambda i: lengths[i])
        cut = [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
        draw.shuffle(cut)
        batches.extend(cut)
    return batches


def sequential(examples: Sequence[Example], batch_size: int) -> Iterator[list[Example]]:
    """All examples once, shortest first, for evaluation."""
    ordered = sorted(examples, key=lambda example: len(example.tokens))
    for at in range(0, len(ordered), batch_size):
        yield ordered[at : at + batch_size]


def divide(examples: Sequence[Example], parts: int) -> list[list[Example]]:
    """At most `parts` non-empty groups of like length and near-equal size."""
    ordered = sorted(examples, key=lambda example: len(example.tokens))
    parts = min(parts, len(ordered))
    bounds = [round(len(ordered) * part / parts) for part in range(parts + 1)]
    return [ordered[a:b] for a, b in itertools.pairwise(bounds)]


def make_batch(examples: Sequence[Example], pad_to: int) -> Batch:
    """Pad `examples` on the right; lengths and target counts become multiples of `pad_to`."""
    lengths = [len(example.tokens) - 1 for example in examples]
    length = -(-max(lengths) // pad_to) * pad_to
    inputs = np.zeros((len(examples), length), np.int32)
    positions: list[int] = []
    targets: list[int] = []
    for row, example in enumerate(examples):
        inputs[row, : lengths[row]] = example.tokens[:-1]
        start = row * length
        positions.extend(range(start + example.start - 1, start + lengths[row]))
        targets.extend(example.tokens[example.start :])
    padding = -len(positions) % pad_to
    return Batch(
        inputs=inputs,
        positions=np.array(positions + [0] * padding, np.int32),
        targets=np.array(targets + [0] * padding, np.int32),
        weights=np.array([1.0] * len(positions) + [0.0] * padding, np.float32),
        tokens=sum(lengths),
        judged=len(positions),
    )
