"""The names a person may give, and what they mean where a model is asked for.

`NAME` is the alias `production`, else the newest ready version; `NAME@1.2.0` one version;
`NAME@alias` what the alias points at; `base:NAME` a base model alone.
"""

from __future__ import annotations

import re

from django.core.exceptions import ValidationError

# Also the rule of the database constraints, so it uses only what SQLite (Python's re) and
# PostgreSQL share. \Z, since Python's $ also matches before a line end.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z"
ALIAS_PATTERN = r"^[a-z][a-z0-9_-]{0,49}\Z"
_NUMBER = "(0|[1-9][0-9]{0,5})"
SEMVER_PATTERN = rf"^{_NUMBER}\.{_NUMBER}\.{_NUMBER}\Z"


def validate_name(value: str) -> None:
    """Refuse what is not 1–100 letters, digits, dots, dashes or underscores (fullmatch)."""
    if not re.fullmatch(NAME_PATTERN, value) or ".." in value:
        raise ValidationError(
            f"{value!r} is not a valid name: begin with a letter or digit and use at most 100 "
            "letters, digits, dots, dashes and underscores (no two dots in a row)."
        )


def validate_alias(value: str) -> None:
    """Refuse what is not a lower-case word that begins with a letter."""
    if not re.fullmatch(ALIAS_PATTERN, value):
        raise ValidationError(
            f"{value!r} is not a valid alias: begin with a lower-case letter and use at most 50 "
            "lower-case letters, digits, dashes and underscores."
        )


def parse_semver(value: str) -> tuple[int, int, int]:
    """(major, minor, patch) of `1.2.3`. Raises ValidationError for anything else."""
    match = re.fullmatch(SEMVER_PATTERN, value)
    if match is None:
        raise ValidationError(
            f"{value!r} is not a semantic version: write MAJOR.MINOR.PATCH, such as 0.1.0."
        )
    major, minor, patch = (int(part) for part in match.groups())
    return major, minor, patch


def validate_semver(value: str) -> None:
    """`parse_semver` as a field validator."""
    parse_semver(value)
