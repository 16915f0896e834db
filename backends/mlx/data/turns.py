"""The assistant's turns in a chat, and where their tokens are in what the template renders.

The template decides: a turn is learned where it stands as the model would have said it when it was
asked for it. Templates may write a turn differently once others follow (without its thoughts, say),
or write what comes before it differently; such a turn is left out, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import jinja2

from backends.base import SpecialTokens
from backends.examples import EMPTY, REWRITTEN, UNASKED, UNSPLIT, unweighted
from backends.mlx import plain

type Span = tuple[int, int]

_REFUSED = (jinja2.TemplateError, ValueError, TypeError, KeyError, IndexError)


@dataclass(frozen=True)
class Turn:
    """An assistant's message by its number in the chat: its tokens (start, end) with those that end
    the turn, or the reason why it cannot be learned."""

    number: int
    span: Span | None
    reason: str = ""


@dataclass(frozen=True)
class Chat:
    """Messages without their weights, and the tokenizer whose template renders them. Special tokens
    in their text are text (`typed`, see `backends.mlx.plain`) or control tokens."""

    messages: Sequence[dict[str, Any]]
    tokenizer: Any
    described: dict[str, Any]  # the tools, where there are any
    typed: plain.Typed

    @classmethod
    def of(
        cls,
        messages: Sequence[dict[str, Any]],
        tokenizer: Any,
        tools: Any = None,
        special: SpecialTokens = "text",
    ) -> Chat:
        described = {"tools": tools} if tools else {}
        spoken = unweighted(messages)
        if special == "control":
            return cls(spoken, tokenizer, described, {})
        hidden, typed = plain.hide(spoken, tokenizer)
        return cls(hidden, tokenizer, described, typed)

    @property
    def earlier_answers(self) -> list[int]:
        """The numbers of the assistant's messages before the last message."""
        return [
            number
            for number, message in enumerate(self.messages[:-1])
            if message.get("role") == "assistant"
        ]

    def prompt(self, number: int) -> list[int]:
        """The tokens that ask for the message `number`, as inference renders them. Raises
        plain.Inseparable, a ValueError."""
        if self.typed:
            return self.encode(self.prompt_text(number))
        tokens: list[int] = self.tokenizer.apply_chat_template(
            self.messages[:number], add_generation_prompt=True, **self.described
        )
        return tokens

    def encode(self, text: str) -> list[int]:
        """The tokens of a rendered text."""
        return plain.encode(self.tokenizer, text, self.typed)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of several pieces; one call takes half as long as one for each."""
        if self.typed:
            return [self.encode(text) for text in texts]
        several: Any = getattr(self.tokenizer, "_tokenizer", self.tokenizer)  # mlx-lm wraps it
        encoded = several(list(texts), add_special_tokens=False)
        tokens: list[list[int]] = encoded["input_ids"]
        return tokens

    def prompt_text(self, number: int) -> str:
        return self._text(self.messages[:number], add_generation_prompt=True)

    def said(self, number: int) -> str:
        """What a model says for the assistant's message `number`, without its ending: the text, or
        what the template writes for a message that calls tools. Raises ValueError."""
        message = self.messages[number]
        if not message.get("tool_calls"):
            return str(message["content"])
        before = self.messages[:number]
        whole = self._text([*before, message])
        if whole == self._text([*before, {**message, "tool_calls": []}]):
            raise ValueError("the base model's chat template does not write tool calls")
        prompt = self.prompt_text(number)
        if not whole.startswith(prompt):
            raise ValueError("the base model's chat template rewrites earlier turns for tool calls")
        added = whole[len(prompt) :]
        ends = [self.tokenizer.decode([token]) for token in self.tokenizer.eos_token_ids]
        cuts = [added.rindex(end) for end in ends if end and end in added]
        return added[: max(cuts)] if cuts else added

    def ending(self, text: str) -> list[int]:
        """The tokens with which the template ends the last message, which says `text`, up to the one
        that stops generation."""
        _, _, tail = self._text(self.messages).rpartition(text.strip())
        tokens = self.tokenizer.encode(tail, add_special_tokens=False)
        for index, token in enumerate(tokens):
            if token in self.tokenizer.eos_token_ids:
                return list(tokens[: index + 1])
        return [self.tokenizer.eos_token_id]

    def _text(self, messages: Sequence[dict[str, Any]], **more: Any) -> str:
        text: str = self.tokenizer.apply_chat_template(
            messages, tokenize=False, **more, **self.described
        )
        return text


def earlier_turns(
    chat: Chat, prompt: Sequence[int], ending: Sequence[int], wanted: Iterable[int]
) -> list[Turn]:
    """Where the assistant's messages `wanted` are in `prompt`, the tokens that ask for the last
    message; `ending` are the tokens that end that one."""
    numbers = list(wanted)
    if not numbers:
        return []
    text = chat.prompt_text(len(chat.messages) - 1)
    places = {number: _place(chat, number, text) for number in numbers}
    marks = sorted(
        {mark for place in places.values() if isinstance(place, tuple) for mark in place}
    )
    positions = _positions(text, prompt, marks, chat.encode_all)
    return [_turn(chat, number, places[number], positions, prompt, ending) for number in numbers]


def _place(chat: Chat, number: int, text: str) -> tuple[int, int] | str:
    """Start and end of a message in the rendered `text`, in characters, or why there are none."""
    message = chat.messages[number]
    if not message["content"].strip() and not message.get("tool_calls"):
        return EMPTY
    try:
        asked = chat.prompt_text(number)
    except _REFUSED:
        return UNASKED
    if not text.startswith(asked):
        return UNASKED
    try:
        said = chat.said(number).strip()
    except ValueError as error:
        return str(error)
    # Templates trim a text, or put a space before it; the words must be the same.
    begin = len(asked) + len(text[len(asked) :]) - len(text[len(asked) :].lstrip())
    return (len(asked), begin + len(said)) if text.startswith(said, begin) else REWRITTEN


def _turn(
    chat: Chat,
    number: int,
    place: tuple[int, int] | str,
    positions: dict[int, tuple[int, bool]],
    prompt: Sequence[int],
    ending: Sequence[int],
) -> Turn:
    if isinstance(place, str):
        return Turn(number, None, place)
    (start, exact), (end, _) = positions[place[0]], positions[place[1]]
    if start < 1:
        return Turn(number, None, UNASKED)  # nothing comes before its first token
    if not exact or end <= start:
        return Turn(number, None, UNSPLIT)
    return Turn(number, (start, _past_ending(prompt, end, ending, chat.tokenizer)))


def _past_ending(prompt: Sequence[int], end: int, ending: Sequence[int], tokenizer: Any) -> int:
    """The position after the tokens that end a turn at `end`; `end` where the template writes none
    that stops generation."""
    if list(prompt[end : end + len(ending)]) == list(ending):
        return end + len(ending)
    at = end
    while at < len(prompt) and tokenizer.decode([prompt[at]]).isspace():
        at += 1
    ended = at < len(prompt) and prompt[at] in tokenizer.eos_token_ids
    return at + 1 if ended else end


def _positions(
    text: str,
    tokens: Sequence[int],
    marks: Sequence[int],
    encode_all: Callable[[Sequence[str]], list[list[int]]],
) -> dict[int, tuple[int, bool]]:
    """For each mark in `text`, in characters, how many of its `tokens` lie before it, and whether a
    token ends right there."""
    pieces = encode_all([text[a:b] for a, b in pairwise([0, *marks, len(text)])])
    if [token for piece in pieces for token in piece] == list(tokens):
        ends = accumulate(len(piece) for piece in pieces)
        return {mark: (end, True) for mark, end in zip(marks, ends, strict=False)}
    # A tokenizer that treats the beginning of a text specially: from the start for each mark.
    found = {}
    for mark in marks:
        (before,) = encode_all([text[:mark]])
        same = next(
            (n for n, (a, b) in enumerate(zip(before, tokens, strict=False)) if a != b),
            min(len(before), len(tokens)),
        )
        found[mark] = (same, same == len(before))
    return found
