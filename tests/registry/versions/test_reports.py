"""What a page shows of a confusion matrix: shades by the share of a row, what is right."""

from __future__ import annotations

import pytest

from backends.reports import by_class
from registry.versions.reports import matrix, prepared

pytestmark = pytest.mark.any_database


def test_cells_are_shaded_by_their_share_of_the_row() -> None:
    pairs = [("a", "a")] * 9 + [("a", "b")] + [("b", "b")]
    drawn = matrix(by_class(pairs, "ab"))
    [(_, [right, wrong]), (_, [none, all_of_it])] = drawn.rows
    assert (right.level, right.right, right.share) == (5, True, 0.9)
    assert (wrong.level, wrong.right) == (1, False)
    assert (none.level, all_of_it.level) == (0, 5)


def test_what_is_merged_is_never_right() -> None:
    names = [f"{n:02}" for n in range(30)]
    drawn = matrix(by_class([(name, name) for name in names], names))
    label, cells = drawn.rows[-1]
    assert (label, cells[-1].count, cells[-1].right, drawn.merged) == ("(other)", 10, False, 10)


def test_an_evaluation_without_reports_shows_none() -> None:
    assert prepared({"scorer": "f1", "examples": 3}) == {}
