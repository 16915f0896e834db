"""One row of a file: a JSON object that every database and program can hold."""

from __future__ import annotations

import json
from typing import Any, NoReturn

LONGEST_LINE = 16 << 20
"""Bytes of an example."""

type Row = dict[str, Any]


class Struct(dict[str, Any]):
    """An object from Parquet, where a field that is null may also be one that only others have."""


class BadLine(ValueError):
    """What is wrong with one example, without saying where."""


def parse(line: str) -> Row:
    """The JSON object on one line. Raises BadLine."""
    try:
        return checked(_DECODER.decode(line))
    except BadLine:
        raise
    except json.JSONDecodeError as error:
        raise BadLine(_why_not(line, error)) from None
    except RecursionError:
        raise BadLine("is nested too deeply.") from None
    except ValueError:  # a whole number of more digits than Python reads
        raise BadLine("holds a number that is too long.") from None


def _why_not(line: str, error: json.JSONDecodeError) -> str:
    """Why a line is no JSON object, and what to do about what is often wrong."""
    rest = line[error.pos :].strip() if error.msg == "Extra data" else ""
    if rest == ",":
        return "ends with a comma; leave it out."
    if rest.startswith("{"):
        return "holds several objects; write each on a line of its own."
    if line.startswith("{'"):
        return "is in Python's notation; write it as JSON (json.dumps)."
    return f"is not JSON ({error.msg} at column {error.colno})."


def checked(value: Any) -> Row:
    """The value, an object of characters and numbers that JSON has. Raises BadLine."""
    try:
        dump(value).encode()
    except UnicodeEncodeError:
        raise BadLine("holds half of a surrogate pair, which is not a character.") from None
    except RecursionError:
        raise BadLine("is nested too deeply.") from None
    if isinstance(value, list):
        raise BadLine('is a list and not a JSON object; write a chat as {"messages": [...]}.')
    if not isinstance(value, dict):
        raise BadLine("is not a JSON object.")
    return value


def dump(value: Any) -> str:
    """One line of JSON. Raises BadLine for numbers that JSON cannot say."""
    try:
        return _ENCODER.encode(value)
    except ValueError:
        raise BadLine("holds NaN or an infinite number, which is not JSON.") from None


def _no_constant(name: str) -> NoReturn:
    raise BadLine(f"holds {name}, which is not JSON; write null.")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
