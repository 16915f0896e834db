"""What can be wrong with a row: one bit each in the file of findings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backends.base import RowFlag
from registry.errors import Invalid


@dataclass(frozen=True)
class Issue:
    """`name` is for addresses and the API, `label` for people, `about` a sentence."""

    bit: int
    name: str
    label: str
    about: str


ISSUES = (
    Issue(1 << 0, "duplicate", "Duplicate", "Repeats an earlier row of its split."),
    Issue(
        1 << 1, "near", "Near-duplicate", "Has at least 80 % of its phrases from an earlier row."
    ),
    Issue(1 << 2, "leak", "Leak", "Its prompt is in an earlier split, too."),
    Issue(1 << 3, "cut", "Cut", "Is longer than the limit; the rest is not learned."),
    Issue(1 << 4, "unlearned", "Nothing to learn", "No answer is left within the limit."),
    Issue(1 << 5, "wrong", "Rejected", "Training with this base model would reject it."),
    Issue(1 << 6, "empty", "Empty answer", "An answer has no text and calls no tool."),
    Issue(
        1 << 7, "unended", "No end token", "An answer is learned without the token that ends it."
    ),
    Issue(1 << 8, "special", "Special tokens", "Special tokens of the base model are in its text."),
    Issue(
        1 << 9, "language", "Languages", "Mixes languages, or has another one than most rows have."
    ),
    Issue(1 << 10, "mail", "Mail address", "Contains a mail address."),
    Issue(1 << 11, "phone", "Phone number", "Contains a phone number."),
    Issue(1 << 12, "card", "Card number", "Contains the number of a payment card."),
)
BY_NAME = {issue.name: issue for issue in ISSUES}
PERSONAL = BY_NAME["mail"].bit | BY_NAME["phone"].bit | BY_NAME["card"].bit
ANY = sum(issue.bit for issue in ISSUES)

_OF_TOKENS = {
    RowFlag.CUT: "cut",
    RowFlag.UNLEARNED: "unlearned",
    RowFlag.WRONG: "wrong",
    RowFlag.UNENDED: "unended",
    RowFlag.TYPED: "special",
}


def bits(names: Iterable[str]) -> int:
    """The bits of issues by their names; "personal" is all three kinds, "any" every issue. Raises
    Invalid for an unknown name."""
    found = 0
    for name in names:
        if name in ("any", "personal"):
            found |= ANY if name == "any" else PERSONAL
        elif name in BY_NAME:
            found |= BY_NAME[name].bit
        else:
            known = ", ".join([*BY_NAME, "personal", "any"])
            raise Invalid(f"There is no issue {name!r}; use one of {known}.")
    return found


def of(found: int) -> list[Issue]:
    """The issues whose bits are set."""
    return [issue for issue in ISSUES if found & issue.bit]


def of_tokens(flags: int) -> int:
    """The bits for what a backend measured (`RowFlag`)."""
    return sum(BY_NAME[name].bit for flag, name in _OF_TOKENS.items() if flags & flag)
