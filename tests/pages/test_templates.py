"""Templates stay readable."""

from __future__ import annotations

from django.conf import settings

LONGEST = 140


def test_no_line_of_a_template_is_longer_than_a_screen() -> None:
    """A long tag takes one attribute per line; Django's own tags cannot be broken."""
    folder = settings.BASE_DIR / "templates"
    long = [
        f"{path.relative_to(folder)}:{number} has {len(line)} characters"
        for path in sorted(folder.rglob("*.html"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if len(line) > LONGEST
    ]
    assert long == []
