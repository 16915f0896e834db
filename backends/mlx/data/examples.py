"""Training examples: from JSON lines to tokens. Knows nothing of models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.examples import Split, conversation, read_jsonl


@dataclass(frozen=True)
class Example:
    """`tokens[start:]` are what the model must learn to say after `tokens[:start]`."""

    tokens: list[int]
    start: int
    line: int = 0  # in its file, from 1

    @property
    def length(self) -> int:
        return len(self.tokens)


def read_split(
    path: Path, tokenizer: Any, max_seq_length: int, mask_prompt: bool
) -> Split[Example]:
    """Tokenize the JSON-lines file `path`. Raises BadExample, which names the file and the line."""

    def parse(value: Any, line: int) -> Example:
        example = example_of(value, tokenizer, mask_prompt)
        return Example(example.tokens, example.start, line)

    def fit(example: Example) -> tuple[Example | None, bool]:
        return cut(example, max_seq_length), example.length > max_seq_length

    return read_jsonl(path, parse, fit)


def cut(example: Example, limit: int) -> Example | None:
    """`example` without the tokens beyond `limit`; None when no answer is left."""
    if example.start >= min(example.length, limit):
        return None
    return Example(example.tokens[:limit], example.start, example.line)


def example_of(value: Any, tokenizer: Any, mask_prompt: bool) -> Example:
    """The tokens of one example in any of the formats. Raises ValueError, TypeError and KeyError.

    A prompt is rendered by the very call that inference makes, and the answer is encoded by itself,
    as a model generates it: so both agree token for token with any template. An answer that calls a
    tool is what the template adds for it. A chat's "tools" are described to the template.
    """
    messages = conversation(value)
    if isinstance(messages, str):
        tokens = list(tokenizer.encode(messages))
        if not tokens or tokens[-1] not in tokenizer.eos_token_ids:
            tokens.append(tokenizer.eos_token_id)
        return Example(tokens, 1)
    described = {"tools": value["tools"]} if "messages" in value and value.get("tools") else {}
    if messages[-1].get("tool_calls"):
        text = _tool_call_text(messages, tokenizer, described)
    else:
        text = messages[-1]["content"]
    prompt = list(
        tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, **described)
    )
    said = tokenizer.encode(text, add_special_tokens=False)
    answer = [*said, *_ending(messages, text, tokenizer, described)]
    return Example(prompt + answer, len(prompt) if mask_prompt else 1)


def _tool_call_text(
    messages: list[dict[str, Any]], tokenizer: Any, described: dict[str, Any]
) -> str:
    """What the template writes for a last message that calls tools, without its ending."""
    whole, silent = (
        tokenizer.apply_chat_template([*messages[:-1], last], tokenize=False, **described)
        for last in (messages[-1], {**messages[-1], "tool_calls": []})
    )
    if whole == silent:
        raise ValueError("the base model's chat template does not write tool calls")
    prompt = tokenizer.apply_chat_template(
        messages[:-1], tokenize=False, add_generation_prompt=True, **described
    )
    if not whole.startswith(prompt):
        raise ValueError("the base model's chat template rewrites earlier turns for tool calls")
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
