"""Training examples: from JSON lines to tokens. Knows nothing of models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import jinja2

from backends.base import Learn, SpecialTokens, TrainingConfig
from backends.examples import OVERRULED, Split, conversation, is_learned, read_jsonl
from backends.mlx.data.turns import Chat, Span, Turn, earlier_turns


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
        """From a line's value. Raises what `example_of` raises."""
        found = example_of(value, tokenizer, config.learn, config.special_tokens)
        return [cls(found.tokens, found.start, line, found.earlier, found.notes)]

    def fit(self, limit: int) -> Self | None:
        """It without the tokens beyond `limit`; None when nothing is left to learn."""
        return cut(self, limit)

    @classmethod
    def fits(cls, items: Sequence[Self], limit: int) -> bool:
        return all(item.fit(limit) is not None for item in items)


def read_split(
    path: Path,
    tokenizer: Any,
    max_seq_length: int,
    learn: Learn,
    special: SpecialTokens = "text",
) -> Split[Example]:
    """Tokenize the JSON-lines file `path`. Raises BadExample, which names the file and the line."""
    config = TrainingConfig(learn=learn, special_tokens=special)
    notes: Counter[str] = Counter()

    def parse(value: Any, line: int) -> Example:
        (example,) = Example.read(value, line, tokenizer, config)
        notes.update(example.notes)
        return example

    def fit(example: Example) -> tuple[Example | None, bool]:
        return example.fit(max_seq_length), example.length > max_seq_length

    return replace(read_jsonl(path, parse, fit), notes=dict(notes))


def cut[E: Example](example: E, limit: int) -> E | None:
    """`example` without the tokens beyond `limit`; None when nothing is left to learn."""
    earlier = tuple((start, min(end, limit)) for start, end in example.earlier if start < limit)
    if not earlier and example.start >= min(example.length, limit):
        return None
    start = min(example.start, limit)
    return replace(example, tokens=example.tokens[:limit], start=start, earlier=earlier)


def example_of(
    value: Any, tokenizer: Any, learn: Learn, special: SpecialTokens = "text"
) -> Example:
    """The tokens of one example in any of the formats. Raises ValueError, TypeError and KeyError.

    The tokens are the same whatever is learned. A prompt is rendered by the very call that inference
    makes, and the answer is encoded by itself, as a model generates it: so both agree token for
    token with any template. An answer that calls a tool is what the template adds for it. A chat's
    "tools" are described to the template, a message's "weight" is not. Special tokens that were
    typed into messages are text or control tokens, as `special` says.
    """
    messages = conversation(value)
    if isinstance(messages, str):
        return Example(_text(messages, tokenizer), 1)
    chat, prompt, answer, ending = _rendered(value, messages, tokenizer, special)
    tokens = prompt + answer
    if learn == "everything":
        silent = [message for message in messages if not is_learned(message)]
        return Example(tokens, 1, notes=(OVERRULED,) * len(silent))
    start = len(prompt) if is_learned(messages[-1]) else len(tokens)
    if learn == "last_answer":
        return Example(tokens, start)
    wanted = [number for number in chat.earlier_answers if is_learned(messages[number])]
    turns = earlier_turns(chat, prompt, ending, wanted)
    return Example(
        tokens,
        start,
        earlier=tuple(turn.span for turn in turns if turn.span),
        notes=tuple(turn.reason for turn in turns if not turn.span),
    )


def request_and_answer(
    value: Any, tokenizer: Any, special: SpecialTokens = "text"
) -> tuple[list[int], list[int]]:
    """The tokens of the last request and of its answer, learned or not; a plain text is divided in
    its middle. Raises what `example_of` raises."""
    messages = conversation(value)
    if isinstance(messages, str):
        tokens = _text(messages, tokenizer)
        middle = max(1, len(tokens) // 2)
        return tokens[:middle], tokens[middle:]
    _, prompt, answer, _ = _rendered(value, messages, tokenizer, special)
    return prompt, answer


def answers_before(value: Any, tokenizer: Any) -> list[Turn]:
    """Every answer before the last one, by its place in the tokens of the request, whatever its
    weight. Raises what `example_of` raises."""
    messages = conversation(value)
    if isinstance(messages, str):
        return []
    chat, prompt, _, ending = _rendered(value, messages, tokenizer)
    return earlier_turns(chat, prompt, ending, chat.earlier_answers)


def _text(text: str, tokenizer: Any) -> list[int]:
    tokens = list(tokenizer.encode(text))
    if not tokens or tokens[-1] not in tokenizer.eos_token_ids:
        tokens.append(tokenizer.eos_token_id)
    return tokens


def _rendered(
    value: dict[str, Any],
    messages: Sequence[dict[str, Any]],
    tokenizer: Any,
    special: SpecialTokens = "text",
) -> tuple[Chat, list[int], list[int], list[int]]:
    """(chat, prompt, answer, the tokens that end the answer and are part of it)."""
    tools = value.get("tools") if "messages" in value else None
    chat = Chat.of(messages, tokenizer, tools, special)
    if not tokenizer.has_chat_template:
        return chat, *_continued(value, tokenizer)
    try:
        text = chat.said(len(messages) - 1)
        prompt = list(chat.prompt(len(messages) - 1))
        ending = chat.ending(text)
    except jinja2.TemplateError as error:
        raise ValueError(f"the base model's chat template refuses it: {error}") from None
    return chat, prompt, [*tokenizer.encode(text, add_special_tokens=False), *ending], ending


def _continued(value: dict[str, Any], tokenizer: Any) -> tuple[list[int], list[int], list[int]]:
    """Without a template: a prompt as a served model completes it as plain text."""
    if "messages" in value:
        raise ValueError(
            "the base model has no chat template, which messages need; use prompt and completion, "
            "or an instruction-tuned base model"
        )
    ending = [tokenizer.eos_token_id]
    said = tokenizer.encode(value["completion"], add_special_tokens=False)
    return list(tokenizer.encode(value["prompt"])), [*said, *ending], ending
