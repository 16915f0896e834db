"""Which tests a worker runs, in which order, and which are quick.

A worker takes whole files, because the tests of a file share what its fixtures made, and all files
that need the same process; those that take longest come first. The repetitions on PostgreSQL come
after everything else, so that a worker changes its database once.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.databases import REPEATED, is_repeated

ROOT = Path(__file__).resolve().parent.parent
# Started at the end, one of these would leave the other worker without work.
LONGEST = (
    "test_demo.py",
    "test_conversion_processes.py",
    "test_up.py",
    "test_services.py",
    "test_mlflow_outage.py",
    "test_modes.py",
    "test_trainer.py",
    "test_training_protocol.py",
    "test_resume.py",
    "test_whole.py",
    "test_browser.py",
    "test_walk.py",
    "test_processes.py",
    "test_kill.py",
    "test_chaos.py",
    "test_schema.py",
    "test_playground.py",
    "test_task_processes.py",  # with all that the running hub is asked
    "test_telemetry.py",
    "test_migrations.py",
    "test_prefix_cache.py",
    "test_generation.py",
    "test_conversion.py",
)
# What is started once in each worker that needs it, by how a file asks for it.
SHARED = {
    "a running hub": re.compile(r"\brunning_hub\b"),
    "an engine and a web process": re.compile(r"\bhub: Hub\b"),
    "MLflow": re.compile(r"\b(mlflow_process|embedded_mlflow)\b"),
    "the starter": re.compile(r"\bstarter_base\b"),
}


@cache
def unit(file: str) -> str:
    """What of the tests a worker takes at a time: those of `file`, or of all files which need the
    same process."""
    text = (ROOT / file).read_text()
    return next((shared for shared, asks in SHARED.items() if asks.search(text)), file)


class ByFile(LoadScopeScheduling):
    """Hands out units, those of each database apart."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, name = nodeid.partition("::")
        return unit(file) + (" on PostgreSQL" if REPEATED.search(name) else "")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile | None:
    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


# What takes seconds: processes, a browser, models that compute, hundreds of examples.
SLOW_NAMES = frozenset(
    {
        "subprocess",
        "multiprocessing",
        "sync_playwright",
        "given",
        "mx",
        "mlx_lm",
        "run_hub",
        "Server",
    }
)
SLOW_FILES = frozenset(
    {"test_query_counts.py", "test_whole.py"}
)  # thousands of rows, all of a self-test
SLOW_FIXTURES = frozenset(
    {"running_hub", "processes", "mlflow_process", "starter_base", "tiny_base", "lively_base"}
)


def is_quick(item: pytest.Item) -> bool:
    """Whether the test is one for every save: `pytest -m quick`, which starts no process."""
    if is_repeated(item) or not isinstance(item, pytest.Function):
        return False
    return (
        item.path.name not in SLOW_FILES
        and SLOW_FIXTURES.isdisjoint(item.fixturenames)
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
