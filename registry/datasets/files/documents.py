"""One JSON document as rows: a list, an object with a list, objects over several lines.

Only the item at hand and a piece of the file are in memory, however long the list is.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any

from registry.datasets.files import values
from registry.datasets.files.unpacking import Input
from registry.datasets.files.values import BadLine, Row

LISTS = ("data", "rows", "examples", "instances", "records")
"""What the list of examples is called within an object."""

_PIECE = 256 << 10  # bytes
_DECODER = json.JSONDecoder()
_BLANK = " \t\r\n"


def items(
    file: Input, tick: Callable[[float], None], left: Callable[[str], None]
) -> Iterator[tuple[str, Row | BadLine]]:
    """(place, row) of every item; what cannot be read ends the reading as a BadLine.

    `left` gets the names of what stands beside the list in an object.
    """
    number = 0
    try:
        document = _Document(file)
        while document.peek():
            for item in _value(document, left):
                number += 1
                tick(file.share())
                try:
                    yield f"item {number}", values.checked(item)
                except BadLine as error:
                    yield f"item {number}", error
            if document.peek() not in ("", "{", "["):
                raise BadLine("is followed by something that is not JSON.")
    except BadLine as error:
        yield f"item {number + 1}", error


def _value(document: _Document, left: Callable[[str], None]) -> Iterator[Any]:
    """The items of a list, of the list in an object, or the object as the one item."""
    if document.peek() == "[":
        yield from _list(document)
    elif document.peek() == "{":
        yield from _object(document, left)
    else:
        yield document.value()


def _list(document: _Document) -> Iterator[Any]:
    document.skip("[")
    if document.peek() == "]":
        document.skip("]")
        return
    while True:
        yield document.value()
        if document.peek() != ",":
            break
        document.skip(",")
    document.skip("]")


def _object(document: _Document, left: Callable[[str], None]) -> Iterator[Any]:
    held: Row = {}
    size, found = 0, False
    document.skip("{")
    while document.peek() != "}":
        key = document.value()
        if not isinstance(key, str):
            raise BadLine("is not JSON (a name must be a text).")
        document.skip(":")
        if key in LISTS and not found and document.peek() == "[":
            found = True
            yield from _list(document)
        else:
            value = document.value()
            held[key] = None if found else value
            size += document.length
            _bound(size)
        if document.peek() != "}":
            document.skip(",")
    document.skip("}")
    if not found:
        yield held
        return
    for key in held:
        left(key)


class _Document:
    """A JSON text that is read from a file as far as it is needed."""

    def __init__(self, file: Input) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at = "", 0
        self.length = 0
        """Characters of the value that was read last."""

    def peek(self) -> str:
        """The next character that is not white space, or "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text) or not self._grow():
                return self._text[self._at : self._at + 1]

    def skip(self, wanted: str) -> None:
        """Past this character. Raises BadLine when there is another one."""
        if self.peek() != wanted:
            raise BadLine(f"is not JSON ({wanted} is missing).")
        self._at += 1

    def value(self) -> Any:
        """The value that begins here. Raises BadLine for none, and for one that is too long."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                _bound(len(self._text) - self._at)
                if self._grow():
                    continue
                raise BadLine(f"is not JSON ({error.msg}).") from None
            except RecursionError:
                raise BadLine("is nested too deeply.") from None
            except ValueError:  # a whole number of more digits than Python reads
                raise BadLine("holds a number that is too long.") from None
            if end == len(self._text) and self._grow():
                continue  # a number may go on
            self.length = end - self._at
            _bound(self.length)
            self._at = end
            return value

    def _grow(self) -> bool:
        """Read on, each time twice as much, so that a long value is not tried too often."""
        rest = self._text[self._at :]
        piece = self._file.read(max(_PIECE, len(rest)))
        try:
            self._text = rest + self._decoder.decode(piece, final=not piece)
        except UnicodeDecodeError:
            raise BadLine("the text is not UTF-8.") from None
        self._at = 0
        return bool(piece)


def _bound(size: int) -> None:
    if size > values.LONGEST_LINE:
        raise BadLine(f"is longer than {values.LONGEST_LINE >> 20} MiB.")
