"""The assistant's turns in a chat, and where their tokens are in what the template renders.

The template decides: a turn is learned where it stands as the model would have said it when it was
asked for it. Templates may write a turn differently once others follow (without its thoughts, say),
or write what comes before it differently; such a turn is left out, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any

import jinja2

from backends import thoughts as thinking
from backends.base import SpecialTokens, Thoughts
from backends.examples import EMPTY, REWRITTEN, STRIPPED, UNASKED, UNSPLIT, unweighted
from backends.mlx import plain

type Span = tuple[int, int]

_REFUSED = (jinja2.TemplateError, ValueError, TypeError, KeyError, IndexError)


@dataclass(frozen=True)
class Turn:
    """An assistant's message by its number in the chat: its tokens (start, end) with those that end
    the turn, and which of them are `masked` thoughts; or the reason why it cannot be learned."""

    number: int
    span: Span | None
    reason: str = ""
    masked: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Said:
    """What a model says for an answer, without its ending, and where in it are thoughts that are not
    learned, in characters."""

    text: str
    masked: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Chat:
    """Messages without their weights, and the tokenizer whose template renders them. Special tokens
    in their text are text (`typed`, see `backends.mlx.plain`) or control tokens. Thoughts are within
    the text (see `backends.thoughts`)."""

    messages: Sequence[dict[str, Any]]
    tokenizer: Any
    described: dict[str, Any]  # the tools, where there are any
    typed: plain.Typed
    thoughts: Thoughts
    _asked: dict[int, str] = field(default_factory=dict, compare=False)

    @classmethod
    def of(
        cls,
        messages: Sequence[dict[str, Any]],
        tokenizer: Any,
        tools: Any = None,
        special: SpecialTokens = "text",
        thoughts: Thoughts = "kept",
    ) -> Chat:
        """Raises ValueError for an answer with two different thoughts."""
        described = {"tools": tools} if tools else {}
        spoken = thinking.spoken(unweighted(messages), thoughts)
        if special == "control":
            return cls(spoken, tokenizer, described, {}, thoughts)
        hidden, typed = plain.hide(spoken, tokenizer)
        return cls(hidden, tokenizer, described, typed, thoughts)

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
        """The text that asks for the message `number`, rendered once."""
        if number not in self._asked:
            self._asked[number] = self._text(self.messages[:number], add_generation_prompt=True)
        return self._asked[number]

    def said(self, number: int) -> Said:
        """What a model says for the assistant's message `number`: its text, or what the template
        writes for thoughts and for a message that calls tools. Raises ValueError."""
        message = self.messages[number]
        calls = bool(message.get("tool_calls"))
        if self.thoughts == "as_written":
            return Said(self._written(number, message) if calls else str(message["content"]))
        within, words = thinking.divided(message["content"])
        opened = self._opens_thoughts(number)
        if (within or opened) and (own := self._with_field(number, within, words)):
            return self._masked(*own)
        text = self._written(number, message) if calls else str(message["content"])
        if opened and not calls:
            text = text if within else thinking.written("", words)
            text = text.lstrip().removeprefix(thinking.OPEN)
            text = text.removeprefix("\n" if self.prompt_text(number).endswith("\n") else "")
        return self._masked(text, opened=opened)

    def ending(self, said: Said) -> list[int]:
        """The tokens with which the template ends the last message, which says this, up to the one
        that stops generation."""
        whole, text = self._text(self.messages), said.text.strip()
        if self.thoughts != "as_written" and text not in whole:
            words = thinking.divided(said.text)[1].strip()  # its thoughts are written otherwise
            text = words if words in whole else ""
        tail = whole.rpartition(text)[2] if text else ""
        tokens = self.tokenizer.encode(tail, add_special_tokens=False)
        for index, token in enumerate(tokens):
            if token in self.tokenizer.eos_token_ids:
                return list(tokens[: index + 1])
        return [self.tokenizer.eos_token_id]

    def _opens_thoughts(self, number: int) -> bool:
        """Whether the request ends with the mark that begins thoughts."""
        template = getattr(self.tokenizer, "chat_template", None)
        if isinstance(template, str) and thinking.OPEN not in template:
            return False
        return self.prompt_text(number).rstrip().endswith(thinking.OPEN)

    def _with_field(self, number: int, within: str, words: str) -> tuple[str, int] | None:
        """What a template writes that knows thoughts as a field of their own, and where they end in
        it; None for a template that does not."""
        message = {**self.messages[number], "content": words}
        fields = dict.fromkeys((thinking.FIELD, thinking.FIELDS[-1]), within)
        try:
            text = self._written(number, message | fields).rstrip()
            if within and text == self._written(number, message).rstrip():
                return None
        except _REFUSED:
            return None
        at = text.find(within)
        if at < 0 or not (within or thinking.CLOSE in text):
            return None
        end = at + len(within)
        if not message.get("tool_calls"):
            begin = len(text) - len(words.strip())
            return (text, begin) if text.endswith(words.strip()) and end <= begin else None
        closed = text.find(thinking.CLOSE, end)
        return text, end if closed < 0 else closed + len(thinking.CLOSE)

    def _masked(self, text: str, end: int = 0, *, opened: bool = False) -> Said:
        """What is said, with the places of its thoughts if they are masked; `end` is that of those
        at its beginning, where it is known."""
        if self.thoughts != "masked":
            return Said(text)
        known = ((0, end),) if end else ()
        more = thinking.places(text[end:], opened=opened)
        return Said(text, (*known, *((end + a, end + b) for a, b in more)))

    def _written(self, number: int, message: dict[str, Any]) -> str:
        """What the template writes for a message in the place of message `number`, without its
        ending. Raises ValueError."""
        before = self.messages[:number]
        whole = self._text([*before, message])
        if message.get("tool_calls") and whole == self._text(
            [*before, {**message, "tool_calls": []}]
        ):
            raise ValueError("the base model's chat template does not write tool calls")
        added = self._after(self.prompt_text(number), whole)
        ends = [self.tokenizer.decode([token]) for token in self.tokenizer.eos_token_ids]
        cuts = [added.rindex(end) for end in ends if end and end in added]
        return added[: max(cuts)] if cuts else added

    def _after(self, prompt: str, whole: str) -> str:
        """What follows a request in a text that has the answer, too. Raises ValueError where the
        request stands otherwise there, but for thoughts that only the request begins."""
        bare = prompt.rstrip()
        if whole.startswith(prompt):
            return whole[len(prompt) :]
        if self.thoughts != "as_written" and bare.endswith(thinking.OPEN):
            if whole.startswith(bare):
                return whole[len(bare) :]
            if whole.startswith(bare := bare.removesuffix(thinking.OPEN)):
                return f"\n{thinking.CLOSE}\n\n{whole[len(bare) :].lstrip()}"
        raise ValueError("the base model's chat template rewrites earlier turns for tool calls")

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
    found = [place for place in places.values() if isinstance(place, _Place)]
    marks = sorted({mark for place in found for mark in (place.start, place.end)})
    positions = _positions(text, prompt, marks, chat.encode_all)
    turns = (_turn(chat, number, places[number], positions, prompt, ending) for number in numbers)
    return [
        replace(turn, masked=_whole_tokens(chat, text, prompt, place.masked))
        if isinstance(place := places[turn.number], _Place)
        else turn
        for turn in turns
    ]


@dataclass(frozen=True)
class _Place:
    """Start and end of a message in a rendered text, and of its masked thoughts, in characters."""

    start: int
    end: int
    masked: tuple[Span, ...]


def _place(chat: Chat, number: int, text: str) -> _Place | str:
    """Where a message is in the rendered `text`, or why it is not."""
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
        whole = chat.said(number)
    except ValueError as error:
        return str(error)
    # Templates trim a text, or put a space before it; the words must be the same.
    begin = len(asked) + len(text[len(asked) :]) - len(text[len(asked) :].lstrip())
    if not text.startswith(whole.text.strip(), begin) and chat.thoughts != "as_written":
        if thinking.divided(message["content"])[0]:
            return STRIPPED
        if message.get("tool_calls"):
            whole = Said(thinking.unthought(whole.text))  # written before a last message alone
    said = whole.text.strip()
    if not text.startswith(said, begin):
        return REWRITTEN
    moved = begin - len(whole.text) + len(whole.text.lstrip())
    end = begin + len(said)
    masked = ((max(len(asked), moved + a), min(end, moved + b)) for a, b in whole.masked)
    return _Place(len(asked), end, tuple(masked))


def _turn(
    chat: Chat,
    number: int,
    place: _Place | str,
    positions: dict[int, tuple[int, bool]],
    prompt: Sequence[int],
    ending: Sequence[int],
) -> Turn:
    if isinstance(place, str):
        return Turn(number, None, place)
    (start, exact), (end, _) = positions[place.start], positions[place.end]
    if start < 1:
        return Turn(number, None, UNASKED)  # nothing comes before its first token
    if not exact or end <= start:
        return Turn(number, None, UNSPLIT)
    return Turn(number, (start, _past_ending(prompt, end, ending, chat.tokenizer)))


def masked_before(chat: Chat, prompt: Sequence[int]) -> tuple[Span, ...]:
    """Which tokens of `prompt`, which asks for the last message, are masked thoughts."""
    if chat.thoughts != "masked":
        return ()
    answers = (m for m in chat.messages[:-1] if m.get("role") == "assistant")
    known = {thinking.divided(answer["content"])[0] for answer in answers} - {""}
    if not known:
        return ()
    text = chat.prompt_text(len(chat.messages) - 1)
    return _whole_tokens(chat, text, prompt, thinking.standing(text, known))


def masked_in(chat: Chat, said: Said, tokens: Sequence[int]) -> tuple[Span, ...]:
    """Which of the `tokens` of what is said are masked thoughts."""
    return _whole_tokens(chat, said.text, tokens, said.masked)


def _whole_tokens(
    chat: Chat, text: str, tokens: Sequence[int], masked: Iterable[Span]
) -> tuple[Span, ...]:
    """Parts of a text in its tokens: one that is partly something else is not among them."""
    found = []
    for first, last in masked:
        (start, exact), (end, _) = (_before(chat, text[:at], tokens) for at in (first, last))
        found.append((start if exact else start + 1, end))
    return tuple((start, end) for start, end in found if start < end)


def _before(chat: Chat, beginning: str, tokens: Sequence[int]) -> tuple[int, bool]:
    """How many tokens of a text lie in its beginning, and whether one ends right there. A beginning
    by itself may end in other tokens than within the text, of which as many count as fit."""
    alone = chat.encode(beginning)
    same = _shared(alone, tokens)
    room = len(chat.tokenizer.decode(alone[same:]))
    taken = 0
    while room and same < len(tokens):
        size = len(chat.tokenizer.decode(tokens[same - taken : same + 1]))
        if size > room:
            return same, False
        taken, same = taken + 1, same + 1
        if size == room:
            break
    return same, True


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    differ = (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differ, min(len(one), len(other)))


def without(span: Span, masked: Iterable[Span]) -> list[Span]:
    """What is left of a span, in order."""
    start, end = span
    left = []
    for first, last in masked:
        if start < first:
            left.append((start, min(first, end)))
        start = max(start, last)
    return [*left, (start, end)] if start < end else left


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
        same = _shared(before, tokens)
        found[mark] = (same, same == len(before))
    return found
