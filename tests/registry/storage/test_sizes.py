"""Sizes for a person: one unit for pages, messages and commands."""

from __future__ import annotations

import pytest

from hub.config import load
from hub.templatetags.display import size
from registry.storage.sizes import human

pytestmark = pytest.mark.any_database


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (999, "999 B"), (98_400_000, "98.4 MB"), (38_654_705_664, "38.7 GB")],
)
def test_sizes_are_written_in_powers_of_1000_on_pages_and_in_messages(
    nbytes: int, text: str
) -> None:
    assert human(nbytes) == size(nbytes) == text


def test_a_budget_is_told_as_it_was_configured() -> None:
    assert human(load(memory_budget_gb=36).memory_budget_bytes) == "36 GB"
