"""Personal data in texts: mail addresses, phone numbers, numbers of payment cards.

Patterns propose, well-kept libraries decide: phonenumbers by each country's numbering plan, and
python-stdnum by a card's check digit. Names and addresses of people are not looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from django.conf import settings

_MAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_%+-])?"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![\w-])"
)
_CARD = re.compile(r"(?<![\w.-])(?:[3-6]\d{3}(?:[ -]?\d{2,7}){2,4})(?![\w-]|\.\d)")
_PHONE = re.compile(r"(?:\+|\(|\d)(?:[\d() ./\u00a0\u2010-\u2015-]{5,24})\d")
_APART = re.compile(r"\d[^\d]|\+")
_CARD_DIGITS = range(13, 20)
_WORDS = {"mail": "[mail address]", "phone": "[phone number]", "card": "[card number]"}


class Found(NamedTuple):
    """Something personal in a text, from `start` to before `end`; `kind` is an issue's name."""

    kind: str
    start: int
    end: int


def find(text: str) -> list[Found]:
    """What is personal in a text, in order; nothing overlaps."""
    found: list[Found] = []
    if "@" in text:
        found += [Found("mail", *match.span()) for match in _MAIL.finditer(text)]
    if _PHONE.search(text):  # both others have as many digits
        found += [one for one in _cards(text) if not _overlaps(one, found)]
        found += [one for one in _phones(text) if not _overlaps(one, found)]
    return sorted(found, key=lambda one: one.start)


def redact(text: str) -> str:
    """The text with a word in place of everything personal, such as [mail address]."""
    parts, end = [], 0
    for one in find(text):
        parts += [text[end : one.start], _WORDS[one.kind]]
        end = one.end
    return "".join([*parts, text[end:]])


def _cards(text: str) -> Iterator[Found]:
    from stdnum import luhn

    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if len(digits) in _CARD_DIGITS and luhn.is_valid(digits):
            yield Found("card", *match.span())


def _phones(text: str) -> Iterator[Found]:
    """Valid numbers of the countries in HUB_PHONE_REGIONS, and of all with a + before them. Bare
    digits are taken for a number of something else."""
    import phonenumbers

    seen: set[tuple[int, int]] = set()
    regions: list[str | None] = [*settings.PHONE_REGIONS] or [None]
    for region in regions:
        for match in phonenumbers.PhoneNumberMatcher(text, region):
            span = (match.start, match.end)
            if span not in seen and _APART.search(match.raw_string):
                seen.add(span)
                yield Found("phone", *span)


def _overlaps(one: Found, others: list[Found]) -> bool:
    return any(one.start < other.end and other.start < one.end for other in others)
