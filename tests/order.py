"""Which tests a worker runs, in which order, and which are quick.

A worker takes whole files, because the tests of a file share what its fixtures made, and those
that take longest first. The repetitions on PostgreSQL come after everything else, so that a worker
changes its database once.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.databases import REPEATED, is_repeated

# Begun at the end, one of these would leave the other worker without work.
LONGEST = ("test_demo.py",)


class ByFile(LoadScopeScheduling):
    """What a worker takes at a time: the tests of a file on one database."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        return f"{file} on PostgreSQL" if REPEATED.search(name) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile | None:
    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


# What takes seconds: processes, a browser, models that compute, hundreds of examples.
SLOW_NAMES = frozenset(
    {"subprocess", "multiprocessing", "sync_playwright", "given", "mx", "mlx_lm", "run_hub"}
)
SLOW_FIXTURES = frozenset(
    {"running_hub", "processes", "mlflow_process", "starter_base", "tiny_base", "lively_base"}
)


def is_quick(item: pytest.Item) -> bool:
    """Whether the test is one for every save: `pytest -m quick`, which starts no process."""
    if is_repeated(item) or not isinstance(item, pytest.Function):
        return False
    return (
        SLOW_FIXTURES.isdisjoint(item.fixturenames)
        and SLOW_NAMES.isdisjoint(vars(item.module))
        and item.callspec.params.get("model") != "mlx"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    if is_quick(item):
        item.add_marker("quick")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The sort keeps the order of the others, which is random."""
    rank = {name: n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (is_repeated(item), rank.get(item.path.name, len(rank))))
