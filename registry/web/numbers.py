"""Whole numbers in addresses and forms, as people and programs send them."""

from __future__ import annotations

import re

_WHOLE = re.compile(r"[0-9]{1,18}")  # what every database counts to


def whole(text: str) -> int | None:
    """The number that `text` is, or None when it is none, or more than a database keeps: `²` and
    a number of a hundred digits are no ids."""
    return int(text) if _WHOLE.fullmatch(text) else None
