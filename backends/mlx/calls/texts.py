"""Texts in a notation that does not put them in quotes: which can be written, and as what expression."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from backends.mlx.calls.notations import Text

_DATE = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "uuid": r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "ipv4": rf"{_BYTE}(?:\.{_BYTE}){{3}}",
    "hostname": rf"{_LABEL}(?:\.{_LABEL})*",
    "email": rf"[a-zA-Z0-9_%+-]+(?:\.[a-zA-Z0-9_%+-]+)*@{_LABEL}(?:\.{_LABEL})+",
    "uri": r"[a-zA-Z][a-zA-Z0-9+.-]*://[a-zA-Z0-9._~:/?#@!$&()*+,;=%'\[\]-]+",
}
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$/#&~-]")
_SLASH = re.compile(r"(\\.)|/", re.DOTALL)  # one that no backslash escapes, or what one does
_WALKED = ("items", "additionalProperties", "additionalItems")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")


def slashed(regex: str) -> str:
    """A regular expression in a Lark grammar."""
    return f"/{_SLASH.sub(lambda found: found[1] or chr(92) + '/', regex)}/"


def fits(text: Text, value: str) -> bool:
    """Whether it can be written so."""
    return not (
        any(mark in value for mark in text.never)
        or (text.unread[0] and re.fullmatch(text.unread[0], value))
        or (text.stripped and value != value.strip())
    )


def regex_of(text: Text, schema: Mapping[str, Any]) -> tuple[str, bool]:
    """The strings of a schema that can be written so, as a Lark expression, and whether one of them is
    empty. Raises ValueError for a schema that no regular expression says."""
    asked: list[str] = []
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    if least or most is not None:
        asked.append(f"(?s:.{{{least},{'' if most is None else most}}})")
    if (pattern := schema.get("pattern")) is not None:
        asked.append(_whole(str(pattern)))
    if (known := schema.get("format")) is not None:
        if known not in _FORMATS:
            raise ValueError(f'"format": "{known}" is not supported in its notation')
        asked.append(_FORMATS[known])
    denied = [f"(?s:.*)(?:{'|'.join(map(escaped, text.never))})(?s:.*)"] if text.never else []
    denied += [text.unread[0]] if text.unread[0] else []
    if (
        text.stripped
    ):  # a parser drops white space at the ends; what is asked for holds for the rest
        denied.append(r"\s(?s:.*)")
        denied += [r"(?s:.*)\s"] if asked else []
    terms = [slashed(one) for one in asked or [r"(?s:.*)"]]
    terms += [f"~{slashed(one)}" for one in denied]
    return " & ".join(terms), all(_takes_nothing(one) for one in asked)


def _takes_nothing(regex: str) -> bool:
    try:
        return re.fullmatch(regex, "") is not None
    except re.error:  # one of Rust's own
        return False


def escaped(text: str) -> str:
    """In a regular expression of Rust."""
    return _SPECIAL.sub(r"\\\g<0>", text).replace("\n", r"\n")


def _whole(pattern: str) -> str:
    """A pattern, which JSON schema looks for anywhere in a text, as an expression of all of it. Raises
    ValueError for anchors within it."""
    begins = pattern.startswith("^")
    ends = bool(re.search(r"(?<!\\)(?:\\\\)*\$$", pattern))
    inner = pattern[int(begins) : len(pattern) - int(ends)]
    depth, in_class, at, choice = 0, False, 0, False
    while at < len(inner):
        sign = inner[at]
        at += 2 if sign == "\\" else 1
        if in_class:
            in_class = sign != "]"
        elif sign == "[":
            in_class = True
            at += inner[at : at + 1] == "^"
            at += inner[at : at + 1] == "]"
        elif sign in "^$":
            raise ValueError(f'"pattern": "{pattern}" has {sign} within it, which is not supported')
        else:
            depth += (sign == "(") - (sign == ")")
            choice |= sign == "|" and not depth
    if choice and (begins or ends):
        raise ValueError(
            f'"pattern": "{pattern}" has ^ or $ in one of its choices, which is not supported'
        )
    before, after = ("" if given else "(?s:.*)" for given in (begins, ends))
    return f"{before}(?:{inner}){after}"


def safe_strings(schema: Any, marks: Sequence[str]) -> Any:
    """The schema of a value in JSON, with strings that hold none of the marks, which a parser would take
    for the end of the value wherever they stand; more exactly, nothing that begins like one of them."""
    if not marks or not isinstance(schema, dict):
        return schema
    found = dict(schema)
    for word, value in schema.items():
        if word in _LISTS and isinstance(value, list):
            found[word] = [safe_strings(one, marks) for one in value]
        elif word in _NAMED and isinstance(value, Mapping):
            found[word] = {key: safe_strings(one, marks) for key, one in value.items()}
        elif word in _WALKED:
            found[word] = safe_strings(value, marks)
    types = schema.get("type")
    if "string" in (types if isinstance(types, list) else [types]) and not (
        {"enum", "const", "format"} & schema.keys()
    ):
        if "pattern" in found:
            found["allOf"] = [*found.get("allOf", []), {"pattern": found.pop("pattern")}]
        found["pattern"] = _without(marks)
    return found


def _without(marks: Sequence[str]) -> str:
    """A pattern of what holds none of the first three characters of the marks, which have a < and the one
    after it in common."""
    third = escaped("".join(sorted({mark[2] for mark in marks})))
    second = escaped(marks[0][1])
    opened = f"<(?:{second}?<)*"
    return f"^(?:[^<]|{opened}(?:[^{second}<]|{second}[^<{third}]))*(?:{opened}{second}?)?$"
