"""Inputs of custom tools: a tool whose argument is one text, which may have to follow a grammar.

For the model it is a function with the argument `input`, a JSON string. A regular expression is that
string's pattern; so is a Lark grammar whose rules do not refer to themselves, which says no more than a
regular expression. Of one that does, the text between the quotes of a JSON string cannot be enforced.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

CUSTOM = "custom"
"""Beside the `function` of a custom tool: its grammar as `{"syntax": "lark" or "regex", "definition": …}`,
or {}. Templates do not see it."""

STRICT = "strict"
"""In the `function` of a tool: whether its arguments have to fit its schema, however it comes to be called.
Templates do not see it."""

_SCHEMA = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The whole input, as plain text"}},
    "required": ["input"],
    "additionalProperties": False,
}

_LONGEST = 100_000  # characters of a pattern; rules that are used often are written often
_TOKEN = re.compile(
    r"""
    (?P<space> \s+ | (?://|\#)[^\n]* )
  | (?P<range> "(?:\\.|[^"\\\n])*" \s*\.\.\s* "(?:\\.|[^"\\\n])*" )
  | (?P<text> "(?:\\.|[^"\\\n])*" i? )
  | (?P<regex> /(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/[a-z]* )
  | %import \s+ common \s* (?: \.(?P<common>\w+) (?:\s*->\s*(?P<renamed>\w+))? | \((?P<several>[^)]*)\) )
  | (?P<ignore> %ignore\b )
  | (?P<alias> -> \s* \w+ )
  | (?P<defined> [?!]* (?P<new>[A-Za-z_]\w*) (?:\.-?\d+)? \s* : )
  | (?P<name> [A-Za-z_]\w* )
  | ~ \s* (?P<least>\d+) (?: \s*\.\.\s* (?P<most>\d+) )?
  | (?P<braces> \{ \d* (?:,\d*)? \} )
  | (?P<sign> [|()*+?\[\]] )
    """,
    re.VERBOSE,
)
# https://github.com/lark-parser/lark/blob/master/lark/grammars/common.lark
_COMMON = {
    "DIGIT": "[0-9]",
    "HEXDIGIT": "[a-fA-F0-9]",
    "INT": "[0-9]+",
    "SIGNED_INT": "[+-]?[0-9]+",
    "DECIMAL": r"(?:[0-9]+\.[0-9]*|\.[0-9]+)",
    "FLOAT": r"(?:[0-9]+[eE][+-]?[0-9]+|(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)",
    "LCASE_LETTER": "[a-z]",
    "UCASE_LETTER": "[A-Z]",
    "LETTER": "[A-Za-z]",
    "WORD": "[A-Za-z]+",
    "CNAME": "[_A-Za-z][_A-Za-z0-9]*",
    "ESCAPED_STRING": r'"(?:[^"\\\n]|\\[^\n])*"',
    "WS_INLINE": r"[ \t]+",
    "WS": r"[ \t\f\r\n]+",
    "CR": r"\r",
    "LF": r"\n",
    "NEWLINE": r"(?:\r?\n)+",
}
_COMMON["NUMBER"] = f"(?:{_COMMON['FLOAT']}|{_COMMON['INT']})"
_COMMON["SIGNED_FLOAT"] = f"[+-]?{_COMMON['FLOAT']}"
_COMMON["SIGNED_NUMBER"] = f"[+-]?{_COMMON['NUMBER']}"


def described(name: str, description: str, grammar: Mapping[str, str]) -> dict[str, Any]:
    """A custom tool as the function that the model sees; its description has the grammar, too."""
    if grammar:
        told = f"The input follows this {grammar['syntax']} grammar:\n{grammar['definition']}"
        description = f"{description}\n\n{told}".strip()
    function = {"name": name, "description": description, "parameters": _SCHEMA}
    return {"type": "function", "function": function, CUSTOM: dict(grammar)}


def arguments(text: str) -> str:
    """Those of a call with this input."""
    return json.dumps({"input": text}, ensure_ascii=False)


def text_in(arguments: str) -> str:
    """The input in the arguments of a call; all of them, where the model did not keep to the form."""
    try:
        found = json.loads(arguments)["input"]
    except (ValueError, KeyError, TypeError):
        return arguments
    return found if isinstance(found, str) else arguments


def schema_of(tool: Mapping[str, Any]) -> Any:
    """The JSON schema of a tool's arguments, with the pattern that its grammar asks for. Raises
    ValueError for a grammar that cannot be enforced."""
    function = tool.get("function") or tool
    schema: Any = function.get("parameters")
    grammar = tool.get(CUSTOM)
    if not grammar:
        return schema
    definition = str(grammar["definition"])
    pattern = definition if grammar["syntax"] == "regex" else pattern_of(definition)
    text = {**schema["properties"]["input"], "pattern": f"^(?:{pattern})$"}
    return {**schema, "properties": {"input": text}}


def is_strict(tool: Mapping[str, Any]) -> bool:
    """Whether a call of it is enforced also where it need not be called."""
    return bool((tool.get("function") or tool).get(STRICT) or tool.get(CUSTOM))


def loosened(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The tool with arguments of which no more is said than that they are an object, or one text."""
    function = tool.get("function") or tool
    if CUSTOM not in tool:
        function = {**function, "parameters": {}}
    return {"type": "function", "function": function}


def shown(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The tool as templates see it."""
    found = {key: value for key, value in tool.items() if key != CUSTOM}
    if STRICT in (function := tool.get("function") or {}):
        found["function"] = {key: value for key, value in function.items() if key != STRICT}
    return found


def pattern_of(lark: str) -> str:
    """The regular expression that says the same as a Lark grammar. Raises ValueError."""
    return _Grammar(lark).pattern()


class _Part(NamedTuple):
    kind: str
    text: str


class _Grammar:
    def __init__(self, source: str) -> None:
        self._rules: dict[str, list[_Part]] = {}
        self._ignored: list[_Part] = []
        self._written: dict[str, str] = {}
        self._within: list[str] = []  # the rules that are being written
        here: list[_Part] | None = None
        for found in _parts(source):
            if found["new"]:
                here = self._rules.setdefault(found["new"], [])
            elif found["ignore"]:
                self._ignored += [_Part("sign", "|")] if self._ignored else []
                here = self._ignored
            elif found["common"] or found["several"]:
                self._import(found)
                here = None
            elif here is None:
                raise ValueError(f"{found[0]!r} stands before the first rule")
            elif not found["alias"]:
                here.append(_part(found))

    def _import(self, found: re.Match[str]) -> None:
        names = re.findall(r"\w+", found["several"] or "") or [found["common"]]
        for name in names:
            if name not in _COMMON:
                raise ValueError(f"%import common.{name} is not known")
            self._rules[found["renamed"] or name] = [_Part("pattern", _COMMON[name])]

    def pattern(self) -> str:
        if "start" not in self._rules:
            raise ValueError("it has no rule named start")
        whole = self._rule("start")
        return whole + self._between if self._ignored else whole

    @property
    def _between(self) -> str:
        """What may stand between any two terminals."""
        return f"(?:{self._all(self._ignored, inside=True)})*" if self._ignored else ""

    def _rule(self, name: str) -> str:
        if name in self._within:
            raise ValueError(
                f"its rule {name} refers to itself; within the JSON of a call only rules that do not "
                "can be enforced"
            )
        if name not in self._rules:
            raise ValueError(f"it has no rule named {name}")
        if name not in self._written:
            self._within.append(name)
            self._written[name] = f"(?:{self._all(self._rules[name], inside=name.isupper())})"
            self._within.pop()
        return self._written[name]

    def _all(self, parts: list[_Part], *, inside: bool) -> str:
        """`inside` a terminal nothing is ignored."""
        written: list[str] = []
        length = 0
        for kind, text in parts:
            if kind == "sign" or kind == "times":
                written.append(text)
            else:
                one = self._rule(text) if kind == "name" else text
                ends = kind == "pattern" or text.isupper()
                written.append(f"(?:{self._between}{one})" if ends and not inside else one)
            length += len(written[-1])
            if length > _LONGEST:
                raise ValueError(f"it has over {_LONGEST} characters as a regular expression")
        return "".join(written)


def _parts(source: str) -> Iterator[re.Match[str]]:
    at = 0
    while at < len(source):
        found = _TOKEN.match(source, at)
        if found is None:
            line = source[at:].splitlines()[0]
            raise ValueError(f"{line[:40]!r} is not supported")
        at = found.end()
        if not found["space"]:
            yield found


_SIGNS = {"(": "(?:", "[": "(?:", "]": ")?"}


def _part(found: re.Match[str]) -> _Part:
    """A token on the right side of a rule, as a regular expression has it; names stay."""
    text = found[0]
    if found["name"]:
        return _Part("name", text)
    if found["sign"]:
        return _Part("sign", _SIGNS.get(text, text))
    if found["braces"]:
        return _Part("times", text)
    if found["least"]:
        most = found["most"]
        return _Part("times", f"{{{found['least']}{f',{most}' if most else ''}}}")
    if found["range"]:
        low, high = (_value(end.strip()) for end in re.split(r'(?<=")\s*\.\.\s*(?=")', text))
        return _Part("pattern", f"[{re.escape(low)}-{re.escape(high)}]")
    if found["text"]:
        any_case = text.endswith("i")
        literal = re.escape(_value(text.removesuffix("i")))
        return _Part("pattern", f"(?{'i' * any_case}:{literal})")
    body, _, flags = text[1:].rpartition("/")
    if strange := set(flags) - set("imsux"):
        raise ValueError(f"the flag {min(strange)} of {text[:40]} is not supported")
    kept = "".join(sorted(set(flags) - {"u"}))
    return _Part("pattern", f"(?{kept}:{body.replace(chr(92) + '/', '/')})")


def _value(literal: str) -> str:
    """A text in quotes, with Python's escapes, as Lark has them."""
    try:
        return str(ast.literal_eval(literal))
    except (ValueError, SyntaxError):
        raise ValueError(f"{literal[:40]} cannot be read as a text in quotes") from None
