"""Calls whose parameters stand one by one, read while a model writes them: their arguments as the JSON that
the whole call will have.

The notation's parser decides what a value is. After each parameter it reads the call as if it ended there,
and what its JSON has grown by is the next piece; of a text, which is the same however it continues, pieces
come before its end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from backends.base import BackendError, ToolCall
from backends.base.call_pieces import Calls
from backends.mlx.calls.notations import Notation, Text, begun

_LONGEST_HEAD = (
    512  # characters before a value; with more, all from there on comes whole, at the end
)
_PLACES = re.compile(r"(\$\w+|,\?|[\n ]\??)")


@dataclass(frozen=True)
class _Shape:
    """A notation as expressions."""

    section: re.Pattern[str]  # that begins the calls, if anything does
    section_end: re.Pattern[str]
    head: re.Pattern[str]
    pair: re.Pattern[str]
    tail: re.Pattern[str]
    line: bool  # whether a new line stands before and after a value
    end: str  # of a value; empty where a comma or brace ends it
    quote: str  # there, what stands around a string
    inner: re.Pattern[str]  # and what strings, braces and commas are


def streams(notation: Notation) -> bool:
    """Whether calls in it can be read by `PairedCalls`."""
    quoted_twice = notation.between_pairs and notation.or_json  # in Python's two ways
    return bool(notation.pair and notation.texts and not quoted_twice)


class PairedCalls(Calls):
    """Where a call is not written as usual, what is left of it and all after it come whole, at the end.

    `start` is the mark with which calls begin, `schema_of` says what a parser knows of a tool's parameter,
    and `parse` reads the calls of a whole answer.
    """

    def __init__(
        self,
        notation: Notation,
        start: str,
        schema_of: Callable[[str, str], Mapping[str, Any]],
        parse: Callable[[str], Sequence[ToolCall]],
    ) -> None:
        super().__init__(start)
        self._notation = notation
        self._schema_of, self._parse = schema_of, parse
        self._shape = _shape(notation)
        self._call: list[str] = []  # the text of the call at hand, as far as it is understood
        self._key = ""
        self._texts: Sequence[Text] = ()  # how the value at hand may be written, if it is a string
        self._text: Text | None = None  # and how it is, as long as it may be shown
        self._shown = False  # whether some of it was sent
        self._searched = 0  # characters of what is held without the end of the value
        self._depth = 0  # of braces and brackets in them

    @property
    def is_within_parameter(self) -> bool:
        """Where an answer that ends here was cut off, though its parser may read a call in it."""
        begun = self._next == self._pair and self._held.strip()
        return bool(begun) or self._next in (self._begin, self._value)

    def _seek(self) -> bool:
        if not super()._seek():
            return False
        if found := self._shape.section.match(self._held):
            self._held = self._held[found.end() :]
        return True

    def _head(self) -> bool:
        if found := self._shape.head.match(self._held):
            self._call = []
            self._take(found.end())
            self._begin_call(found["name"])
            self._next = self._pair
            return True
        if self._notation.whole != "$calls" and (
            found := self._shape.section_end.match(self._held)
        ):
            self._held, self._next = self._held[found.end() :], self._seek
            return True
        return self._wait()

    def _pair(self) -> bool:
        if found := self._shape.tail.match(self._held):
            self._take(found.end())
            self._next = self._seek if self._notation.whole == "$calls" else self._head
            return self._grow(self._arguments("") or "")
        if found := self._shape.pair.match(self._held):
            self._take(found.end())
            self._key, self._shown = found["key"], False
            self._texts = self._as_text(found.groupdict().get("type"))
            self._next = self._begin
            return True
        return self._wait()

    def _begin(self) -> bool:
        """The value's first characters decide how it is written."""
        if not self._held:
            return False
        if self._shape.line and self._held[0] == "\n":
            self._take(1)
        self._next, self._text, self._depth = self._value, None, 0
        given = self._held.lstrip()
        for text in self._texts:
            prefix = text.form.partition("$text")[0]
            if given.startswith(prefix):
                self._text = text
                self._take(len(self._held) - len(given) + len(prefix) if prefix else 0)
            elif prefix.startswith(given):
                self._next = self._begin
                return False
        return True

    def _value(self) -> bool:
        end = self._end()
        if end is not None:
            self._take(end)
            tail = self._notation.call.partition("$pairs")[2].replace("\n?", "\n")
            closed = self._arguments(tail)
            if closed is None:
                return self._give_up()
            self._next = self._pair
            return self._grow(closed[:-1])
        if self._text:
            held = self._closings[1].search(self._held)
            self._show(self._text, self._held[: held.start() if held else None])
        if self._shape.end and not self._shown:
            self._searched = len(self._held)
            if self._searched > _LONGEST_HEAD:
                self._text = None  # JSON, or so it seems
        return False

    @property
    def _closings(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        return _closings(self._text, self._shape.line, self._shape.end)

    def _end(self) -> int | None:
        """Where in what is held the value is over."""
        if self._text or self._shape.end:
            at = max(0, self._searched - len(self._shape.end))
            found = self._closings[0].search(self._held, at)
            return found.end() if found else None
        while found := self._shape.inner.search(self._held, self._searched):
            sign = found[0]
            if sign in ",}" and not self._depth:
                return found.start()
            if sign == self._shape.quote:  # a string that has no end yet
                return None
            self._searched = found.end()
            self._depth += (sign in "{[") - (sign in "}]")
        return None

    def _show(self, form: Text, text: str) -> None:
        """The next part of a string, unless it may yet be read as something else."""
        shown = text if self._shown or not form.stripped else text.lstrip()
        if not shown or (not self._shown and re.fullmatch(form.unread[1], shown)):
            return
        before = ""
        if not self._shown:
            before = {"": "{", "{": ""}.get(self._sent, ", ")
            before += f'{json.dumps(self._key, ensure_ascii=False)}: "'
        self._shown = True
        self._take(len(text))
        self._add(before + json.dumps(shown, ensure_ascii=False)[1:-1])

    def _as_text(self, kind: str | None) -> Sequence[Text]:
        """How the value may be written if it is a string, whatever it says."""
        texts = self._notation.texts
        if kind is not None:
            return texts if kind == "string" else ()
        if self._shape.quote or self._notation.or_json:
            return texts
        schema = self._schema_of(self._calls[-1][0], self._key)
        only = all(isinstance(one, str) for one in schema.get("enum", []))
        return texts if schema.get("type") == "string" and only else ()

    def _take(self, length: int) -> None:
        self._call.append(self._held[:length])
        self._held, self._searched = self._held[length:], 0

    def _arguments(self, tail: str) -> str | None:
        """Those of the call as if it ended here."""
        before, after = self._notation.whole.replace("\n?", "\n").split("$calls")
        try:
            [call] = self._parse("".join([before, *self._call, tail, after]))
        except (BackendError, ValueError):
            return None
        return call.arguments if call.name == self._calls[-1][0] else None

    @property
    def _sent(self) -> str:
        return "".join(self._calls[-1][1])

    def _grow(self, arguments: str) -> bool:
        """They are known up to here."""
        sent = self._sent
        if not arguments.startswith(sent):
            return self._give_up()
        self._add(arguments[len(sent) :])
        return True

    def _wait(self) -> bool:
        return self._give_up() if len(self._held) > _LONGEST_HEAD else False

    def _give_up(self) -> bool:
        self._next, self._held = None, ""
        return False


@lru_cache
def _shape(notation: Notation) -> _Shape:
    section, section_end = notation.whole.split("$calls")
    head, tail = notation.call.split("$pairs")
    pair, end = notation.pair.split("$value")
    if head.rstrip("\n?").endswith("$name"):
        head += "<"  # with which the name is over
    ended = end.strip("\n?")
    quote = "" if ended else notation.texts[0].form.partition("$text")[0]
    mark = re.escape(quote)
    begins = pair.removesuffix("\n")
    if between := notation.between_pairs:
        begins = f"{between}?{begins}"
    return _Shape(
        section=_expression(section),
        section_end=_expression(f"\n{section_end}"),
        head=_expression(f"\n{head}", notation.names.pattern),
        pair=_expression(f"\n{begins}", notation.keys.pattern),
        tail=_expression(f"\n{tail.rstrip(chr(10) + '?')}"),
        line=pair.endswith("\n"),
        end=ended,
        quote=quote,
        inner=re.compile(rf"{mark}.*?{mark}|{mark}|[{{}}\[\],]", re.DOTALL),
    )


def _expression(text: str, name: str = "") -> re.Pattern[str]:
    """What matches a text of the notation, with white space wherever it has some, and without what has a
    `?` after it."""
    written = ""
    for part in _PLACES.split(text):
        if part in ("$name", "$key"):
            written += f"(?P<{part[1:]}>{name})"
        elif part == "$type":
            written += r"(?P<type>\w+)"
        elif part == "$number":
            written += r"\d+"
        elif part == ",?":
            written += part
        else:
            written += r"\s*" if part[:1] in ("\n", " ") else re.escape(part)
    ahead = written.endswith("<") and len(written) > 1
    return re.compile(f"{written[:-1]}(?=<)" if ahead else written, re.DOTALL)


@lru_cache
def _closings(text: Text | None, line: bool, end: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What ends a value, and what may be the beginning of that at the end of a text."""
    before = after = ""
    if text is not None:
        suffix = text.form.partition("$text")[2]
        space = r"\s*" if text.stripped or suffix else r"\n?" if line else ""
        before, after = re.escape(suffix) + space, space
        if suffix:
            return (
                re.compile(before + re.escape(end)),
                re.compile(_within(suffix, space + begun(end)) + r"\Z"),
            )
    return re.compile(before + re.escape(end)), re.compile(after + begun(end) + r"\Z")


def _within(word: str, then: str) -> str:
    """What `word` begins with, or all of it and `then`."""
    opened = "".join(f"(?:{re.escape(sign)}" for sign in word)
    return opened + then + ")?" * len(word)
