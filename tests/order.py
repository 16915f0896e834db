"""Which tests a worker runs, and in which order: whole files, those that take longest first.

The tests of a file stay together, because they share what its fixtures made. Their repetitions on
PostgreSQL come after everything else, so that a worker changes its database once.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.databases import REPEATED, is_repeated

# Begun at the end, one of these would leave the other worker without work.
LONGEST = ("test_demo.py",)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """What a worker takes at a time: the tests of a file on one database."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        return f"{file} on PostgreSQL" if REPEATED.search(name) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile | None:
    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The sort keeps the order of the others, which is random."""
    rank = {name: n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (is_repeated(item), rank.get(item.path.name, len(rank))))
