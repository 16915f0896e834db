"""A Lark grammar of calls in a notation: right names, what is required, each value of its type, and nothing
that the notation's parser would read as something else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from backends.base import BackendError
from backends.mlx.calls.notations import Notation, Text
from backends.mlx.calls.parameters import ANY, Alternative, Parameter, alternatives, parameters
from backends.mlx.calls.texts import fits, regex_of, safe_strings
from backends.mlx.schemas import enforceable

# Spaces as models have seen them, and no others: a confused model would write white space forever.
CALL_SPACES = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_PLACES = re.compile(r"(\$\w+|[\n ]\?)")
_MARK = re.compile(r"(<[^<>]+>|\[[A-Z_]+\])")
_TYPES = {"integer": '("integer" | "number")', ANY: '"object"'}  # where a notation says them
# Of a call, whatever it is.
_ANY_CALL = {
    "number": "/[0-9]{1,3}/",
    "id": "/[a-zA-Z0-9]{9}/",
    "with_id": '(", \\"id\\": \\"" /[a-zA-Z0-9]{9}/ "\\"")?',
}
_SCALARS = ("boolean", "integer", "number", "null")


def lark_text(text: str) -> str:
    """A text in a Lark grammar."""
    return json.dumps(text)


class _Piece(NamedTuple):
    """Of the right side of a rule: `letters`, a `rule`, or a `terminal`, which takes the letters after it
    into itself, because it would not end before them."""

    kind: str
    said: str
    empty: bool = False  # whether a terminal may be
    never: tuple[str, ...] = ()  # what it does not hold


type _Way = tuple[str, str, _Piece]
"""One way to write a value: its type, what stands for it in the notation's text, and what is there."""


class CallGrammar:
    """The rules of calls of some tools."""

    def __init__(self, tokenizer: Any, notation: Notation) -> None:
        self._tokenizer = tokenizer
        self._split_letters: dict[str, list[_Piece]] = {}
        self._notation = notation
        self._names: dict[str, str] = {}  # of rules and terminals, by what they say
        self._schema: dict[str, Any] = {}  # of the tool at hand
        self._within: dict[
            str, str
        ] = {}  # rules of objects and lists of that tool, by their schemas
        self.rules: list[str] = []

    def mark(self, mark: str) -> str:
        """A mark: its own token where the tokenizer has one, which models learned to write and which the
        letters in a grammar do not stand for."""
        return self._joined(self._letters(mark))

    def answer(self, tools: Sequence[tuple[str, Any]], *, several: bool) -> str:
        """The right side of a rule of one call, or of `several`, of tools by name and schema. Raises
        BackendError for what cannot be enforced."""
        calls = []
        for name, schema in tools:
            try:
                calls.append(self._rule(self._call(name, schema)))
            except (ValueError, RecursionError) as error:
                raise BackendError(
                    f"A call of {name} cannot be enforced: {error}; change that, or send tool_choice "
                    '"auto".'
                ) from error
        call = self._rule(" | ".join(calls))
        if several:
            between = self._joined(self._split(self._notation.between))
            call = f"{call} ({between} {call})*"
        return self._joined(self._split(self._notation.whole, calls=call))

    def _call(self, name: str, schema: Any) -> str:
        notation = self._notation
        if not notation.names.fullmatch(name):
            raise ValueError(f"its notation has no way to write the name {name!r}")
        self._schema, self._within = enforceable(_object(schema)), {}
        said = {"name": json.dumps(name)[1:-1] if "$json" in notation.call else name}
        if "$json" in notation.call:
            rules = {"json": self._json(self._schema)}
        else:
            rules = {"pairs": self._pairs(parameters(self._schema, self._schema))}
        return self._joined(self._split(notation.call, said, **_ANY_CALL, **rules))

    # ------------------------------------------------------------ pairs of a name and a value

    def _pairs(self, found: list[Parameter]) -> str:
        """In their order, those that are not required or not."""
        notation = self._notation
        if notation.by_name:
            found = sorted(found, key=lambda one: one.name.lower())
        pairs = [(self._rule(self._pair(one)), one.required) for one in found]
        between = self._joined(self._split(notation.between_pairs))
        if not between:
            return " ".join(pair if required else f"{pair}?" for pair, required in pairs)
        begun = later = ""  # what may follow from here on: as the first one, and after another
        needed = False  # whether one of those is required
        for pair, required in reversed(pairs):
            begun = " | ".join(filter(None, [f"{pair} {later}", "" if required else begun]))
            needed = needed or required
            begun = f"({begun})" if needed else f"({begun})?"
            later = self._rule(f"({between} {pair}){'' if required else '?'} {later}")
        return begun

    def _pair(self, one: Parameter) -> str:
        notation = self._notation
        if not notation.keys.fullmatch(one.name):
            raise ValueError(f"its notation has no way to write the parameter {one.name!r}")
        return self._ways(notation.pair, one.name, one.schema)

    def _ways(self, pair: str, key: str, schema: Any) -> str:
        """`pair`, or a value alone, in every way in which the notation writes what `schema` allows."""
        before, _, after = pair.partition("$value")
        written: dict[
            str, list[str]
        ] = {}  # by what stands before them, which llguidance must not guess
        for kind, form, piece in self._values(key, alternatives(schema, self._schema)):
            said = self._split(before, {"key": key}, type=_TYPES.get(kind, lark_text(kind)))
            value = self._joined(self._split(form + after, None, piece, value=piece.said))
            written.setdefault(self._joined(said), []).append(value)
        if not written:
            raise ValueError(f"no value of {key!r} can be written in its notation")
        return " | ".join(f"{said} ({' | '.join(ways)})" for said, ways in written.items())

    def _values(self, key: str, found: list[Alternative]) -> Iterator[_Way]:
        notation = self._notation
        types = {one.type for one in found}
        typed = "$type" in notation.pair
        if notation.nested != "json":
            for one in found:
                yield from self._alike(key, one)
        elif notation.texts and (typed or ("string" in types and types <= {"string", "null"})):
            for one in found:
                if one.type == "string":
                    yield from self._texts(key, one.schema)
                elif one.type == "null" and not typed:
                    yield "null", "$text", _Piece("terminal", '"null"')
                else:
                    yield one.type, "$value", _Piece("rule", self._json(one.schema))
                yield from self._also(one)
        elif found:
            whole = {"anyOf": [one.schema for one in found]} if len(found) > 1 else found[0].schema
            yield ANY, "$value", _Piece("rule", self._json(whole))
            for one in found:
                yield from self._also(one)

    def _also(self, one: Alternative) -> Iterator[_Way]:
        """Other spellings of true, false and null."""
        values = one.schema.get(
            "enum", {"boolean": [True, False], "null": [None]}.get(one.type, [])
        )
        for value in map(json.dumps, values):
            if value in self._notation.also:
                yield one.type, "$value", _Piece("rule", lark_text(self._notation.also[value]))

    # ------------------------------------------------------------ values

    def _texts(self, key: str, schema: dict[str, Any]) -> Iterator[_Way]:
        notation, values = self._notation, schema.get("enum")
        if values is None:
            for text in notation.texts:
                regex, empty = regex_of(text, schema)
                yield "string", text.form, _Piece("terminal", regex, empty, text.never)
            if notation.or_json:
                yield "string", "$value", _Piece("rule", self._json(schema))
            return
        for value in values:
            form: Text | None = next((t for t in notation.texts if fits(t, value)), None)
            if form:
                yield (
                    "string",
                    form.form.replace("$text", "$value"),
                    _Piece("rule", lark_text(value)),
                )
            if notation.or_json and (form is None or form.form != "$text"):
                yield (
                    "string",
                    "$value",
                    _Piece("rule", lark_text(json.dumps(value, ensure_ascii=False))),
                )
            elif form is None:
                raise ValueError(f"its notation has no way to write {value!r} as {key!r}")

    def _alike(self, key: str, one: Alternative) -> Iterator[_Way]:
        """A value with its inner ones written as the arguments themselves are."""
        if one.type == "string":
            yield from self._texts(key, one.schema)
        elif one.type in _SCALARS:
            yield one.type, "$value", _Piece("rule", self._json(one.schema))
        elif one.type == ANY and not one.schema and self._notation.nested == "alike":
            for kind in ("string", "boolean", "number", "null", "array", "object"):
                yield from self._alike(key, Alternative(kind, {"type": kind}))
        elif one.type == ANY or self._notation.nested == "never" or "enum" in one.schema:
            what = {"object": "an object", "array": "a list"}.get(one.type, "of no one type")
            what = "a choice of objects or lists" if "enum" in one.schema else what
            raise ValueError(f"its notation has no way to write {key!r}, which is {what}")
        else:
            yield one.type, "$value", _Piece("rule", self._nested(key, one))

    def _nested(self, key: str, one: Alternative) -> str:
        known = json.dumps(one.schema, sort_keys=True)
        if known not in self._within:  # before its parts, which may refer to it
            self._within[known] = name = f"n{len(self._names)}_{len(self._within)}"
            inner = self._list if one.type == "array" else self._inner
            self.rules.append(f"{name}: {inner(key, one.schema)}")
        return self._within[known]

    def _inner(self, key: str, schema: dict[str, Any]) -> str:
        others = schema.get("additionalProperties", True)
        if schema.get("properties") or others is False:
            pairs = self._pairs(parameters(schema, self._schema))
        else:
            pair = self._rule(f'/[a-zA-Z0-9_]+/ ":" ({self._ways("$value", key, others)})')
            pairs = f'({pair} ("," {pair})*)?'
        return f'"{{" {pairs} "}}"'

    def _list(self, key: str, schema: dict[str, Any]) -> str:
        if "prefixItems" in schema or isinstance(schema.get("items"), list):
            raise ValueError(f'"prefixItems" of {key!r} is not supported')
        item = self._rule(self._ways("$value", key, schema.get("items", True)))
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        more = f'("," {item}){{{max(least - 1, 0)},{"" if most is None else max(most - 1, 0)}}}'
        items = "" if most == 0 else f"{item} {more}" if least else f"({item} {more})?"
        return f'"[" {items} "]"'

    def _json(self, schema: Any) -> str:
        """A rule of JSON."""
        if schema is not self._schema:
            schema = safe_strings(schema, self._notation.never)
            if '"$ref"' in json.dumps(schema):
                kept = {w: self._schema[w] for w in ("$defs", "definitions") if w in self._schema}
                schema = {**schema, **safe_strings(kept, self._notation.never)}
        return self._rule(f"%json {json.dumps({**schema, 'x-guidance': CALL_SPACES})}")

    # ------------------------------------------------------------ rules

    def _rule(self, said: str) -> str:
        return self._named("r", said)

    def _named(self, prefix: str, said: str, how: str = "") -> str:
        if (known := f"{prefix}: {said}") not in self._names:
            self._names[known] = name = f"{prefix}{len(self._names)}"
            self.rules.append(f"{name}{how}: {said}")
        return self._names[known]

    def _split(
        self,
        text: str,
        letters: Mapping[str, str] | None = None,
        terminal: _Piece | None = None,
        /,
        **rules: str,
    ) -> list[_Piece]:
        """A text of the notation in pieces; what its names stand for is given as `letters` or `rules`, and
        `$text` is the `terminal`."""
        pieces: list[_Piece] = []
        for part in _PLACES.split(text):
            name = part.removeprefix("$")
            if part == "$text" and terminal:
                pieces.append(terminal)
            elif part in ("\n?", " ?"):
                pieces.append(_Piece("rule", f"{lark_text(part[0])}?"))
            elif part == name:
                pieces += self._letters(part)
            elif letters and name in letters:
                pieces.append(_Piece("letters", letters[name]))
            else:
                pieces.append(_Piece("rule", rules[name]))
        return pieces

    def _letters(self, text: str) -> list[_Piece]:
        if text not in self._split_letters:
            self._split_letters[text] = self._in_tokens(text)
        return self._split_letters[text]

    def _in_tokens(self, text: str) -> list[_Piece]:
        parts = [text] if self._token(text) is not None else _MARK.split(text)
        tokens = [(part, self._token(part)) for part in parts if part]
        return [
            _Piece("letters", part) if token is None else _Piece("rule", f"<[{token}]>")
            for part, token in tokens
        ]

    def _token(self, mark: str) -> int | None:
        token = self._tokenizer.convert_tokens_to_ids(mark) if _MARK.search(mark) else None
        known = token is not None and self._tokenizer.convert_ids_to_tokens(token) == mark
        return token if known else None

    def _joined(self, pieces: list[_Piece]) -> str:
        """Pieces as the right side of a rule."""
        written: list[str] = []
        letters, terminal = "", None
        for piece in [*pieces, _Piece("rule", "")]:
            if piece.kind == "letters":
                letters += piece.said
                continue
            written.append(self._ended(terminal, letters))
            letters, terminal = "", piece if piece.kind == "terminal" else None
            written.append("" if terminal else piece.said)
        return " ".join(filter(None, written))

    def _ended(self, terminal: _Piece | None, letters: str) -> str:
        """A terminal with the letters after it, or letters alone."""
        if terminal is None:
            return lark_text(letters) if letters else ""
        said = f"({terminal.said}) {lark_text(letters)}" if letters else terminal.said
        named = self._named("T", said)
        if any(mark in letters for mark in terminal.never):
            # It cannot go on after them, which llguidance does not see of itself (1.9.1): it panics where
            # nothing but a token may follow.
            return self._named("x", named, "[lazy]")
        return f"{named}?" if terminal.empty and not letters else named


def _object(schema: Any) -> dict[str, Any]:
    """The schema of arguments, which are an object even where it does not say so."""
    if not isinstance(schema, dict) or not schema:
        return {"type": "object"}
    said = {"type", "$ref", "anyOf", "oneOf", "allOf"} & schema.keys()
    return schema if said else {"type": "object", **schema}
