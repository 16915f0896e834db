"""Training examples: from JSON lines to tokens. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import jinja2

from backends import thoughts as thinking
from backends.base import BackendError, Learn, SpecialTokens, Thoughts, Tools, TrainingConfig
from backends.examples import (
    BAD,
    EMPTY,
    OVERRULED,
    conversation,
    good_answer,
    is_labelled,
    is_learned,
    of_the_last,
    reason,
)
from backends.mlx.data import turns
from backends.mlx.data.turns import Chat, Said, Span, Turn
from backends.mlx.tools_in_words import trained


@dataclass(frozen=True)
class Example:
    """`tokens[start:]`, and the `earlier` spans (start, end) before it, are what the model must
    learn to say, each token after all that come before it. `notes` has a reason for every answer
    that is not learned, or is learned, against the setting."""

    tokens: list[int]
    start: int
    line: int = 0  # in its file, from 1
    earlier: tuple[Span, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        return len(self.tokens)

    @property
    def learned(self) -> tuple[Span, ...]:
        """All spans that are learned, in order."""
        if self.start >= self.length:
            return self.earlier
        return (*self.earlier, (self.start, self.length))

    @property
    def judged(self) -> int:
        """Tokens that are learned."""
        return sum(end - start for start, end in self.learned)

    # What `backends.mlx.data.columns` keeps of it, and makes it from:

    label: ClassVar[int] = 0

    @property
    def parts(self) -> tuple[Example, ...]:
        return (self,)

    @classmethod
    def joined(cls, parts: Sequence[Example], line: int, label: int) -> Self:
        (part,) = parts
        return cls(part.tokens, part.start, line, part.earlier)

    @classmethod
    def read(cls, value: Any, line: int, tokenizer: Any, config: TrainingConfig) -> list[Self]:
        """From a line's value; of an answer that is labelled bad nothing is learned. Raises what
        `example_of` raises."""
        learn, good = config.learn, True
        if isinstance(value, dict) and is_labelled(value):
            (value, good), learn = good_answer(value), of_the_last(learn)
        found = example_of(
            value, tokenizer, learn, config.special_tokens, config.thoughts, config.tools
        )
        if not good:
            return [cls(found.tokens, len(found.tokens), line, notes=(BAD,))]
        return [cls(found.tokens, found.start, line, found.earlier, found.notes)]

    def fit(self, limit: int) -> Self | None:
        """It without the tokens beyond `limit`; None when nothing is left to learn."""
        return cut(self, limit)

    @classmethod
    def fits(cls, items: Sequence[Self], limit: int) -> bool:
        return all(item.fit(limit) is not None for item in items)


def cut[E: Example](example: E, limit: int) -> E | None:
    """`example` without the tokens beyond `limit`; None when nothing is left to learn."""
    earlier = tuple((start, min(end, limit)) for start, end in example.earlier if start < limit)
    if not earlier and example.start >= min(example.length, limit):
        return None
    start = min(example.start, limit)
    return replace(example, tokens=example.tokens[:limit], start=start, earlier=earlier)


def example_of(
    value: Any,
    tokenizer: Any,
    learn: Learn,
    special: SpecialTokens = "text",
    thoughts: Thoughts = "kept",
    tools: Tools = "in_words",
) -> Example:
    """The tokens of one example in any of the formats. Raises ValueError, TypeError and KeyError.

    The tokens are the same whatever is learned, but for thoughts that are dropped. A prompt is
    rendered by the very call that inference makes, and the answer is encoded by itself, as a model
    generates it: so both agree token for token with any template. An answer that calls a tool is what
    the template adds for it. A chat's "tools" are described to the template, or in words where it knows
    none (see `TrainingConfig.tools`); a message's "weight" is not. Special tokens that were typed into messages are text or control tokens, as `special` says.
    """
    value, messages = _told(value, tokenizer, tools)
    if isinstance(messages, str):
        return Example(_text(messages, tokenizer), 1)
    found = _rendered(value, messages, tokenizer, special, thoughts)
    chat, tokens, start = found.chat, found.prompt + found.answer, len(found.prompt)
    answer = turns.without((start, len(tokens)), found.masked)
    if learn == "everything":
        silent = [message for message in messages if not is_learned(message)]
        masked = (*turns.masked_before(chat, found.prompt), *found.masked)
        return _learning(tokens, turns.without((1, len(tokens)), masked), [OVERRULED] * len(silent))
    notes = []
    if not is_learned(messages[-1]):
        answer = []
    elif found.empty:
        answer, notes = [], [EMPTY]
    if learn == "last_answer":
        return _learning(tokens, answer, notes)
    wanted = [number for number in chat.earlier_answers if is_learned(messages[number])]
    earlier = turns.earlier_turns(chat, found.prompt, found.ending, wanted)
    spans = [
        part for turn in earlier if turn.span for part in turns.without(turn.span, turn.masked)
    ]
    notes += [turn.reason for turn in earlier if not turn.span]
    return _learning(tokens, [*spans, *answer], notes)


def _learning(tokens: list[int], spans: list[Span], notes: list[str]) -> Example:
    """An example of which these spans are learned."""
    last = spans[-1:] if spans and spans[-1][1] == len(tokens) else []
    start = last[0][0] if last else len(tokens)
    earlier = spans[: len(spans) - len(last)]
    return Example(tokens, start, earlier=tuple(earlier), notes=tuple(notes))


def request_and_answer(
    value: Any,
    tokenizer: Any,
    special: SpecialTokens = "text",
    thoughts: Thoughts = "kept",
    tools: Tools = "in_words",
) -> tuple[list[int], list[int]]:
    """The tokens of the last request and of its answer, learned or not; a plain text is divided in
    its middle. Raises what `example_of` raises."""
    value, messages = _told(value, tokenizer, tools)
    if isinstance(messages, str):
        tokens = _text(messages, tokenizer)
        middle = max(1, len(tokens) // 2)
        return tokens[:middle], tokens[middle:]
    found = _rendered(value, messages, tokenizer, special, thoughts)
    return found.prompt, found.answer


def whole_answer(tokenizer: Any, text: str) -> list[int]:
    """The tokens of an answer that says `text` and ends, which are the same after any request.
    Raises BackendError."""
    try:
        _, answer = request_and_answer({"prompt": "-", "completion": text}, tokenizer)
    except (ValueError, TypeError, KeyError) as error:
        raise BackendError(f"The model cannot answer {text!r}: {reason(error)}.") from None
    return answer


def answers_before(value: Any, tokenizer: Any, thoughts: Thoughts = "kept") -> list[Turn]:
    """Every answer before the last one, by its place in the tokens of the request, whatever its
    weight. Raises what `example_of` raises."""
    value, messages = _told(value, tokenizer, "in_words")
    if isinstance(messages, str):
        return []
    found = _rendered(value, messages, tokenizer, "text", thoughts)
    return turns.earlier_turns(found.chat, found.prompt, found.ending, found.chat.earlier_answers)


def _told(value: Any, tokenizer: Any, tools: Tools) -> tuple[Any, str | list[dict[str, Any]]]:
    """An example and its conversation, where the model's template knows no tools or system messages
    with these in words, unless they are left as written. Raises what `conversation` raises."""
    messages = conversation(value)
    if "messages" not in value or tools == "as_written":
        return value, messages
    value = trained(value, tokenizer)
    return value, value["messages"]


def _text(text: str, tokenizer: Any) -> list[int]:
    tokens = list(tokenizer.encode(text))
    if not tokens or tokens[-1] not in tokenizer.eos_token_ids:
        tokens.append(tokenizer.eos_token_id)
    return tokens


@dataclass(frozen=True)
class _Rendered:
    """A chat as tokens: what asks for its last message and that message, of which `ending` are those
    that end it, and `masked` the thoughts that are not learned, counted from the prompt's first."""

    chat: Chat
    prompt: list[int]
    answer: list[int]
    ending: list[int]
    masked: tuple[Span, ...]
    empty: bool  # without its thoughts nothing is said


def _rendered(
    value: dict[str, Any],
    messages: Sequence[dict[str, Any]],
    tokenizer: Any,
    special: SpecialTokens,
    thoughts: Thoughts,
) -> _Rendered:
    tools = value.get("tools") if "messages" in value else None
    chat = Chat.of(messages, tokenizer, tools, special, thoughts)
    last = len(messages) - 1
    try:
        if tokenizer.has_chat_template:
            said = chat.said(last)
            prompt, ending = list(chat.prompt(last)), chat.ending(said)
        else:
            said = _continued(value, chat)
            prompt, ending = list(tokenizer.encode(value["prompt"])), [tokenizer.eos_token_id]
    except jinja2.TemplateError as error:
        raise ValueError(f"the base model's chat template refuses it: {error}") from None
    words = list(tokenizer.encode(said.text, add_special_tokens=False))
    moved = len(prompt)
    masked = tuple((moved + a, moved + b) for a, b in turns.masked_in(chat, said, words))
    return _Rendered(chat, prompt, [*words, *ending], ending, masked, not said.text.strip())


def _continued(value: dict[str, Any], chat: Chat) -> Said:
    """Without a template: an answer that continues its prompt as plain text."""
    if "messages" in value:
        raise ValueError(
            "the base model has no chat template, which messages need; use prompt and completion, "
            "or an instruction-tuned base model"
        )
    text = str(chat.messages[-1]["content"])
    return Said(text, tuple(thinking.places(text)) if chat.thoughts == "masked" else ())
