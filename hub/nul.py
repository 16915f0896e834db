"""NUL characters, which PostgreSQL keeps in no text: a mixin of both database backends.

People and programs are refused them where they send them. What a model answers or a file holds
is not theirs to mend, so there each becomes U+FFFD, on SQLite too: rows can then be moved from
one database to the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

REPLACEMENT = "\ufffd"


def without_nul(value: Any) -> Any:
    """The same value, every NUL in its texts (of lists and dictionaries too) replaced."""
    match value:
        case str():
            return value.replace("\0", REPLACEMENT) if "\0" in value else value
        case dict():
            return {without_nul(key): without_nul(item) for key, item in value.items()}
        case list():
            return [without_nul(item) for item in value]
        case tuple():
            return tuple(map(without_nul, value))
    return value


def _execute(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    if params:
        params = [without_nul(row) for row in params] if many else without_nul(params)
    return execute(sql, params, many, context)


class NoNulOperations:
    """Before a backend's `DatabaseOperations`."""

    def adapt_json_value(self, value: Any, encoder: Any) -> Any:
        return super().adapt_json_value(without_nul(value), encoder)  # type: ignore[misc]


class NoNulWrapper:
    """Before a backend's `DatabaseWrapper`."""

    execute_wrappers: list[Callable[..., Any]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute_wrappers.append(_execute)
