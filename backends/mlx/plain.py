"""Special tokens that someone typed into a message stay text.

A chat template writes all messages into one text, in which the tokenizer finds its special tokens,
whoever wrote them: `<|im_end|>` in a user's message would end the turn, and what follows could pose
as another's. So before rendering, each typed one becomes a character that no message has, and after
encoding the tokens of that character become those of the typed text. A message without any is
rendered and encoded as ever. Training and serving both render through this module.

The assistant's own messages are left as they are: models write special tokens of their own, such as
those around thoughts and calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

_HIDDEN = range(0x10F000, 0x10FFFE)
"""Private characters of the last plane: no tokenizer has learned to join their bytes to others."""

_patterns: WeakKeyDictionary[Any, re.Pattern[str] | None] = WeakKeyDictionary()

type Typed = Mapping[str, str]
"""Typed special tokens by the character that stands for each."""


class Inseparable(ValueError):
    """A tokenizer cannot keep a typed special token apart from its own."""

    def __init__(self, special: str) -> None:
        super().__init__(
            f"a message contains the special token {special!r}, which this model's tokenizer cannot "
            "read as text; remove it from the message"
        )


def typed_in(message: Mapping[str, Any], tokenizer: Any) -> set[str]:
    """The special tokens in the text of a message to the assistant."""
    content = message.get("content")
    pattern = _special(tokenizer)
    if pattern is None or not isinstance(content, str) or message.get("role") == "assistant":
        return set()
    return set(pattern.findall(content))


def hide[M: Mapping[str, Any]](
    messages: Sequence[M], tokenizer: Any
) -> tuple[Sequence[Any], Typed]:
    """The messages with a character in place of each typed special token, and which is which."""
    found: set[str] = set().union(*(typed_in(message, tokenizer) for message in messages))
    if not found:
        return messages, {}
    said = json.dumps(list(messages), ensure_ascii=False, default=str)
    free = (chr(code) for code in _HIDDEN if chr(code) not in said)
    stands_for = dict(zip(sorted(found), free, strict=False))
    pattern = _special(tokenizer)
    assert pattern is not None, "it found them"
    hidden = [
        {**message, "content": pattern.sub(lambda m: stands_for[m[0]], message["content"])}
        if typed_in(message, tokenizer)
        else message
        for message in messages
    ]
    return hidden, {character: special for special, character in stands_for.items()}


def encode(tokenizer: Any, text: str, typed: Typed) -> list[int]:
    """The tokens of a rendered text in which characters stand for what was typed. Raises
    Inseparable."""
    tokens = list(tokenizer.encode(text, add_special_tokens=False))
    for character, special in typed.items():
        count = text.count(character)
        if json.dumps(character)[1:-1] in text.lower():
            raise Inseparable(special)  # the template has written it as an escape of JSON
        if not count:
            continue
        mark = _bare(tokenizer, tokenizer.encode(character, add_special_tokens=False))
        plain = _bare(
            tokenizer,
            tokenizer.encode(special, add_special_tokens=False, split_special_tokens=True),
        )
        places = list(_places(tokens, mark))
        control = set(tokenizer.encode(special, add_special_tokens=False))
        if len(places) != count or not control.isdisjoint(plain):
            raise Inseparable(special)
        for place in reversed(places):
            tokens[place : place + len(mark)] = plain
    return tokens


def _special(tokenizer: Any) -> re.Pattern[str] | None:
    """Finds the special tokens of a tokenizer in a text, the longest first."""
    if tokenizer not in _patterns:
        added = getattr(tokenizer, "added_tokens_decoder", {}).values()
        texts = sorted((str(token) for token in added if token.special), key=len, reverse=True)
        found = re.compile("|".join(map(re.escape, texts))) if texts else None
        _patterns[tokenizer] = found
    return _patterns[tokenizer]


def _bare(tokenizer: Any, tokens: Sequence[int]) -> list[int]:
    """Without the space that some tokenizers put before a text."""
    first = 0
    while first < len(tokens) - 1 and not tokenizer.decode([tokens[first]]).strip():
        first += 1
    return list(tokens[first:])


def _places(tokens: Sequence[int], mark: Sequence[int]) -> Iterator[int]:
    """Where `mark` begins in `tokens`."""
    at = 0
    while at + len(mark) <= len(tokens):
        if list(tokens[at : at + len(mark)]) == list(mark):
            yield at
            at += len(mark)
        else:
            at += 1
