"""Tool calls read while a model writes them, in notations that have the arguments as JSON.

It knows where a call's name and its arguments are, not whether they are right: whoever reads the whole
answer decides that, and `as_written` holds both against each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backends.base.errors import BackendError
from backends.base.generation import CallPiece, ToolCall

_LONGEST_HEAD = 512  # characters before the arguments; a longer one comes whole, at the end
_LONGEST_TAIL = 128
_NAMED = r'\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\{)'
_BOUNDS = re.compile(r'["\\{}\[\]]')


@dataclass(frozen=True)
class Form:
    """What stands around the arguments of a call. `head` ends where they begin; its one group is the
    name, as JSON where it has quotation marks."""

    head: re.Pattern[str]
    tail: re.Pattern[str]

    @classmethod
    def of(cls, head: str, tail: str) -> Form:
        return cls(re.compile(head, re.DOTALL), re.compile(tail))


@dataclass(frozen=True)
class Notation:
    """`mark` begins the calls of an answer; with `each` every single one, and words may come between."""

    mark: str
    forms: tuple[Form, ...]
    each: bool = False


HERMES = Notation(
    "<tool_call>", (Form.of(rf"<tool_call>\s*{_NAMED}", r"\s*\}\s*</tool_call>"),), each=True
)
MISTRAL = Notation(
    "[TOOL_CALLS]",
    (
        Form.of(rf"(?:\[TOOL_CALLS\])?\s*[\[,]\s*{_NAMED}", r'\s*(?:,\s*"id"\s*:\s*"[^"]*"\s*)?\}'),
        Form.of(r"(?:\[TOOL_CALLS\])?\s*([\w-]+)\s*(?:\[CALL_ID\][\w-]+)?\s*\[ARGS\]\s*(?=\{)", ""),
    ),
)
KIMI = Notation(
    "<|tool_calls_section_begin|>",
    (
        Form.of(
            r"(?:<\|tool_calls_section_begin\|>)?\s*<\|tool_call_begin\|>\s*(?:functions\.)?(.+?):\d+"
            r"\s*<\|tool_call_argument_begin\|>\s*(?=\{)",
            r"\s*<\|tool_call_end\|>",
        ),
    ),
)


class Calls:
    """Takes the text of an answer as it comes; see `backends.base.CallReader`. Steps are places in a call:
    each takes from what is held what it understands, and says whether there is more to read."""

    def __init__(self, mark: str) -> None:
        """`mark` is what calls begin with."""
        self._mark = mark
        self._held = ""  # what is not yet understood
        self._next: Callable[[], bool] | None = self._seek
        self._pieces: list[CallPiece] = []
        self._calls: list[tuple[str, list[str]]] = []

    @property
    def calls(self) -> list[tuple[str, str]]:
        """(name, arguments) of each, as far as they have come."""
        return [(name, "".join(parts)) for name, parts in self._calls]

    def push(self, text: str) -> list[CallPiece]:
        self._held += text
        self._pieces = []
        while self._next is not None and self._next():
            pass
        return self._pieces

    def _seek(self) -> bool:
        at = self._held.find(self._mark)
        if at < 0:
            self._held = self._held[1 - len(self._mark) :]
            return False
        self._held, self._next = self._held[at:], self._head
        return True

    def _head(self) -> bool:
        raise NotImplementedError

    def _begin_call(self, name: str) -> None:
        self._pieces.append(CallPiece(len(self._calls), name, ""))
        self._calls.append((name, []))

    def _add(self, part: str) -> None:
        """More of the last call's arguments."""
        if part:
            self._calls[-1][1].append(part)
            self._pieces.append(CallPiece(len(self._calls) - 1, "", part))


class JSONCalls(Calls):
    """Where a call is not written as usual, it and all after it come whole, at the end."""

    def __init__(self, notation: Notation) -> None:
        super().__init__(notation.mark)
        self._notation = notation
        self._form = notation.forms[0]
        self._object = _Object()

    def _head(self) -> bool:
        for form in self._notation.forms:
            if found := form.head.match(self._held):
                try:
                    name = json.loads(found[1]) if found[1][0] == '"' else found[1]
                except ValueError:
                    break
                self._held, self._form = self._held[found.end() :], form
                self._begin_call(name)
                self._object, self._next = _Object(), self._arguments
                return True
        else:
            return self._give_up(_LONGEST_HEAD)
        return self._give_up(0)

    def _arguments(self) -> bool:
        end = self._object.end(self._held)
        part = self._held[:end]
        self._held = self._held[len(part) :]
        self._add(part)
        if end is None:
            return False
        self._next = self._tail
        return True

    def _tail(self) -> bool:
        found = self._form.tail.match(self._held)
        if found is None:
            return self._give_up(_LONGEST_TAIL)
        self._held = self._held[found.end() :]
        self._next = self._seek if self._notation.each else self._head
        return True

    def _give_up(self, most: int) -> bool:
        """When more than `most` characters were not what was expected."""
        if len(self._held) > most:
            self._next, self._held = None, ""
        return False


class _Object:
    """Finds the end of a JSON object that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = self._escaped = False

    def end(self, text: str) -> int | None:
        """Where in the next piece it ends, if it does."""
        at = int(self._escaped)
        self._escaped = False if text else self._escaped
        while found := _BOUNDS.search(text, at):
            at, sign = found.end(), found[0]
            if sign == "\\":
                self._escaped = self._quoted and at == len(text)
                at += self._quoted
            elif sign == '"':
                self._quoted = not self._quoted
            elif not self._quoted:
                self._depth += 1 if sign in "{[" else -1
                if not self._depth:
                    return at
        return None


def as_written(calls: Sequence[ToolCall], text: str, notation: Notation) -> list[ToolCall]:
    """The `calls` that were found in the whole of `text`, with their arguments letter for letter as the
    model wrote them, which are the pieces that were sent of them. Raises BackendError where one call
    can be read in two ways."""
    reader = JSONCalls(notation)
    reader.push(text)
    found = list(calls)
    for number, (name, arguments) in enumerate(reader.calls):
        same = number < len(found) and found[number].name == name
        if not same or _settled(arguments) != _settled(found[number].arguments):
            raise BackendError(
                f"The answer begins a tool call that cannot be read: {text.strip()[:80]!r}; ask again."
            )
        found[number] = ToolCall(name, arguments)
    return found


def _settled(arguments: str) -> str | None:
    """In one spelling; None for what is no JSON."""
    try:
        return json.dumps(json.loads(arguments))
    except ValueError:
        return None
