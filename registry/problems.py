"""What is wrong with a request's body, in words for whoever sent it: the field, what came and what is
allowed. pydantic names its own types and tries every alternative of a value; neither helps a reader."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from django.http import HttpRequest

_UNKNOWN = object()
_TYPES = re.compile(r".*\[.*\]|constrained-\w+|function-.*|tagged-union.*")
_WORDS = (
    (r"^(Input|String|List|Dictionary|Tuple|Set|Value|Bytes) should ", "must "),
    (r"a valid dictionary( or instance of \w+)?|a valid mapping", "an object"),
    (r"a valid (integer|array)", r"an \1"),
    (r"\ba valid (list|string|number|boolean)", r"a \1"),
    (r", unable to (parse|interpret) .*| after validation", ""),
)
_MEDIA = {
    **dict.fromkeys(("image", "image_url", "input_image"), "images"),
    **dict.fromkeys(("audio", "input_audio"), "audio recordings"),
    **dict.fromkeys(("document", "file", "input_file"), "documents"),
    **dict.fromkeys(("video", "video_url", "input_video"), "videos"),
}
_LONGEST_SHOWN = 60


class Problem(NamedTuple):
    """`place` is the field, such as `messages.0.content`, and empty for the whole body."""

    place: str
    sentence: str
    is_missing: bool


def body_of(request: HttpRequest) -> Any:
    """What was sent as JSON, if it was."""
    if request.content_type != "application/json":
        return _UNKNOWN
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError):
        return _UNKNOWN


def problems(found: Iterable[Mapping[str, Any]], sent: Any = _UNKNOWN) -> list[Problem]:
    """One for each field that is wrong; `found` are pydantic's, whose places begin within `sent`.

    Of the alternatives that a value may be, only the one counts that it comes closest to: it is of the
    right type, and wrong deep within.
    """
    fields: dict[tuple[str | int, ...], list[Mapping[str, Any]]] = {}
    for one in found:
        fields.setdefault(tuple(_path(one["loc"], sent)), []).append(one)
    inner = {path[:length] for path in fields for length in range(len(path))}
    return [_worded(path, fields[path], _at(path, sent)) for path in fields if path not in inner]


def _path(places: Sequence[str | int], sent: Any) -> Iterator[str | int]:
    """The keys and numbers that lead to the value, without the names of types between them."""
    value = sent
    for number, place in enumerate(places):
        if value is _UNKNOWN:
            if not _is_type(place):
                yield place
            continue
        inner = _inner(value, place)
        if inner is not _UNKNOWN:
            value = inner
            yield place
        elif number == len(places) - 1 and isinstance(value, dict) and not _is_type(place):
            yield place  # a field that is missing


def _is_type(place: str | int) -> bool:
    return _TYPES.fullmatch(str(place)) is not None


def _at(path: Sequence[str | int], sent: Any) -> Any:
    for place in path:
        sent = _inner(sent, place)
    return sent


def _inner(value: Any, place: str | int) -> Any:
    if isinstance(place, int):
        return value[place] if isinstance(value, list) and place < len(value) else _UNKNOWN
    return value.get(place, _UNKNOWN) if isinstance(value, dict) else _UNKNOWN


def _worded(path: Sequence[str | int], found: list[Mapping[str, Any]], came: Any) -> Problem:
    fitting = [one for one in found if not one["type"].endswith("_type")]
    found = fitting[:1] or found  # when it is of no right type, all that it may be
    first = found[0]
    kind = first["type"]
    expected = first.get("ctx", {})
    if kind.startswith("union_tag"):
        path = [*path, str(expected.get("discriminator", "")).strip("'")]
        came = expected.get("tag", _UNKNOWN)
    place = ".".join(map(str, path))
    if isinstance(came, str) and came in _MEDIA and path and path[-1] == "type":
        where = ".".join(map(str, path[:-1]))
        what = f"{_MEDIA[came]} are not supported by this model; send text"
        return Problem(where, f"{where}: {what}.", False)
    if kind in ("missing", "union_tag_not_found"):
        return Problem(place, f"{place} is required.", True)
    if kind == "extra_forbidden":
        return Problem(place, f"{place} is not known here.", False)
    if kind == "union_tag_invalid":
        message = f"must be one of {expected['expected_tags']}"
    else:
        message = " or ".join(dict.fromkeys(map(_message, found))).replace(" or must be ", " or ")
    if not message.startswith("must "):
        named = message.split(" ", 1)[0].isalpha()  # and not a parameter
        whole = message[:1].upper() + message[1:] if named else message
        return Problem(place, f"{place}: {message}." if place else f"{whole}.", False)
    if ", not " not in message and came is not _UNKNOWN:
        message += f", not {_shown(came)}"
    return Problem(place, f"{place or 'The body'} {message}.", False)


def _message(found: Mapping[str, Any]) -> str:
    message = str(found["msg"]).removeprefix("Value error, ").removesuffix(".")
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    return message


def _shown(value: Any) -> str:
    """What came, as JSON while that is short."""
    if isinstance(value, dict):
        return "an object"
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return f"a value of type {type(value).__name__}"
    if len(text) <= _LONGEST_SHOWN:
        return text
    return f"a list of {len(value)}" if isinstance(value, list) else f"{text[:_LONGEST_SHOWN]}…"
