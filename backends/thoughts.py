"""Thoughts: what a model says before the words of its answer, between <think> and </think>.

Data sets have them within an answer's text, or in a field beside it, and clients of a served model send
them back in the field. `spoken` makes one form of both, the one that a model generates: within the text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from backends.text import overlap

if TYPE_CHECKING:  # files are read in a process that needs nothing of the contract
    from backends.base import Thoughts

OPEN, CLOSE = "<think>", "</think>"
FIELD = "reasoning_content"
FIELDS = (FIELD, "reasoning", "thinking")
"""The fields beside an answer's text; templates that read one read the first, or the last."""

_BLOCK = re.compile(rf"{OPEN}.*?{CLOSE}\s*", re.DOTALL)
_INNER = re.compile(rf"\s*{OPEN}.*?{CLOSE}\s*", re.DOTALL)
_LEADING = re.compile(rf".*?(?:{CLOSE}\s*|\Z)", re.DOTALL)


def divided(text: str) -> tuple[str, str]:
    """(thoughts, words) of an answer that may begin with thoughts. Their opening mark may be missing,
    since many templates write it in the request, where the closing one begins or ends a line;
    without that one there are no words."""
    head, closed, words = text.partition(CLOSE)
    inner = head.strip()
    if inner.startswith(OPEN):
        return inner.removeprefix(OPEN).strip(), words.lstrip()
    alone = head.endswith("\n") or words.startswith("\n")
    return (inner, words.lstrip()) if closed and alone and OPEN not in head else ("", text)


def beside(message: Mapping[str, Any]) -> str:
    """The thoughts in the fields beside a message's text. Raises ValueError for different ones."""
    values = {key: message[key] for key in FIELDS if isinstance(message.get(key), str)}
    found = {value.strip() for value in values.values()} - {""}
    if len(found) > 1:
        raise ValueError(
            f"an answer has different thoughts in {' and '.join(values)}; keep one of them"
        )
    return next(iter(found), "")


def thoughts_of(message: Mapping[str, Any]) -> str:
    """The thoughts of an assistant's message, wherever they are. Raises ValueError for two."""
    one, other = beside(message), divided(message["content"])[0]
    if one and other and one != other:
        raise ValueError(
            "an answer has thoughts in its text and others beside it; keep one of them"
        )
    return one or other


def written(thoughts: str, words: str) -> str:
    """Both as one text."""
    return f"{OPEN}\n{thoughts}\n{CLOSE}\n\n{words}"


def spoken(messages: Sequence[dict[str, Any]], thoughts: Thoughts) -> Sequence[dict[str, Any]]:
    """The messages with the thoughts of answers within their text, or without any where they are
    dropped; unchanged where they are left as written. Raises ValueError."""
    if thoughts == "as_written":
        return messages
    return [
        _spoken(message, thoughts) if message.get("role") == "assistant" else message
        for message in messages
    ]


def _spoken(message: dict[str, Any], thoughts: Thoughts) -> dict[str, Any]:
    found, content = thoughts_of(message), message["content"]
    _, words = divided(content)
    if thoughts == "dropped":
        content = _BLOCK.sub("", words)
    elif found and not content.lstrip().startswith(OPEN):
        content = written(found, words)
    if content == message["content"] and not message.keys() & set(FIELDS):
        return message
    bare = {key: value for key, value in message.items() if key not in FIELDS}
    return bare | {"content": content}


def words_of(text: str) -> str:
    """A generated or expected answer without its thoughts, which are not part of what is compared."""
    return _BLOCK.sub("", divided(text)[1])


def unthought(text: str) -> str:
    """Without the empty thoughts that some templates write before an answer that has none."""
    head, closed, rest = text.partition(CLOSE)
    return rest.lstrip() if closed and head.strip() == OPEN else text


def places(text: str, *, opened: bool = False) -> Iterator[tuple[int, int]]:
    """Where thoughts are in what a model says, with their marks and the white space around them:
    (start, end) in characters. `opened` when the request has the opening mark."""
    end = 0
    if opened or text.lstrip().startswith(OPEN):
        leading = _LEADING.match(text)
        assert leading is not None, "it may be the whole text"
        end = leading.end()
        yield 0, end
    for block in _INNER.finditer(text, end):
        yield block.span()


class Divider:
    """Separates thoughts from words while an answer comes. What may be the beginning of a mark, and
    the white space around marks, is held back until it is clear. `words` is a mark before an answer
    without thoughts."""

    def __init__(
        self, open: str = OPEN, close: str = CLOSE, words: str = "", *, opened: bool = False
    ) -> None:
        self._open, self._close, self._words = open, close, words
        self._held = ""
        self._started = False  # something was said since the last mark
        self.marked = False  # the words began with their mark
        self._state: Literal["before", "thinking", "words"] = "thinking" if opened else "before"

    @property
    def is_undecided(self) -> bool:
        """Whether what came so far may be the beginning of a mark."""
        return self._state == "before"

    @property
    def is_thinking(self) -> bool:
        return self._state == "thinking"

    def push(self, text: str) -> tuple[str, str]:
        """Add the next piece; (thoughts, words) that may be shown."""
        if self._state == "words" and self._started:
            return "", text
        text = self._held + text
        self._held = ""
        if self._state == "before":
            rest = text.lstrip()
            if not rest.startswith(self._open):
                bare = rest.removeprefix(self._words)
                if self._open.startswith(rest) or (bare == rest and self._words.startswith(rest)):
                    self._held = text
                    return "", ""
                self._state, self._started, self.marked = "words", True, bare != rest
                return "", bare if self.marked else text
            self._state, text = "thinking", rest.removeprefix(self._open)
        thoughts = ""
        if self._state == "thinking":
            before, closed, after = text.partition(self._close)
            thoughts = before if self._started else before.lstrip()
            if not closed:
                kept = overlap(thoughts, self._close)
                whole = thoughts[: len(thoughts) - kept]
                thoughts = whole.rstrip()
                self._held = whole[len(thoughts) :] + text[len(text) - kept :]
                self._started = self._started or bool(thoughts)
                return thoughts, ""
            thoughts = thoughts.rstrip()
            self._state, self._started, text = "words", False, after
        words = text.lstrip()
        self._started = bool(words)
        return thoughts, words

    def flush(self) -> tuple[str, str]:
        """The answer ended: what was held back."""
        held, self._held = self._held, ""
        return (held.rstrip(), "") if self.is_thinking else ("", held)


def standing(text: str, known: Collection[str]) -> Iterator[tuple[int, int]]:
    """Where these thoughts stand in a whole chat, as `places` has them."""
    for block in _BLOCK.finditer(text):
        if divided(block[0])[0] in known:
            yield block.span()
