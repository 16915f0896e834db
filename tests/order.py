"""Which tests a worker runs, in which order, and which are quick.

A worker takes whole files, because the tests of a file share what its fixtures made, and all files
that need the same process or browser; those that take longest come first. The repetitions on PostgreSQL come
after everything else, so that a worker changes its database once.
"""

from __future__ import annotations

import contextlib
import importlib
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
    "in_browser",  # the folder
    "test_up.py",  # with all that the running hub is asked
    "test_demo.py",
    "test_services.py",
    "test_walk.py",
    "test_mlflow_outage.py",  # with all that MLflow is asked
    "test_openai.py",  # with all that engine and web process are asked
    "test_processes.py",
    "test_conversion_processes.py",
    "test_resume.py",
    "test_chaos.py",
    "test_schema.py",
    "test_telemetry.py",
    "test_as_on_a_gpu.py",
    "test_generation.py",  # with all that the starter is asked
    "test_within_budget.py",
    "test_outages.py",
    "test_training_protocol.py",
    "test_alone.py",
    "test_modes.py",
    "test_containers.py",
    "test_whole.py",
    "test_migrations.py",
    "test_first_tokens.py",
    "test_notations.py",
    "test_prefix_cache.py",
    "test_kill.py",
    "test_trainer.py",
)
# Folders whose files share what their conftest.py starts.
TOGETHER = ("tests/pages/in_browser",)
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
    if file.startswith(TOGETHER):
        return str(Path(file).parent)
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


# What a file imports whose tests take seconds: processes, a browser, models that compute, hundreds of
# examples, a package that itself takes a second to import.
SLOW_IMPORTS = frozenset(
    {
        "subprocess",
        "multiprocessing",
        "IN_BROWSER",
        "chromium",
        "given",
        "mlx.core",
        "mlx_lm",
        "run_hub",
        "Server",
    }
)
SLOW_PACKAGES = frozenset({"anthropic", "openai"})
IMPORTED = re.compile(
    r"^(?:if TYPE_CHECKING:\n    )?(?:from (\S+) )?import (?:([^(\n]+)|\(([^)]*)\))", re.MULTILINE
)
# The main job, thousands of rows, all of a self-test, an agent's whole session.
SLOW_FILES = frozenset({"test_demo.py", "test_query_counts.py", "test_whole.py", "test_mcp.py"})
SLOW_FIXTURES = frozenset(
    {"running_hub", "processes", "mlflow_process", "starter_base", "tiny_base", "lively_base"}
)


@cache
def is_slow(file: Path) -> bool:
    """Whether all tests of a file take seconds. Read from its text, so that nothing is imported for it."""
    if file.name in SLOW_FILES:
        return True
    for package, one_line, many in IMPORTED.findall(file.read_text()):
        names = [name.strip().partition(" as ")[0] for name in (one_line or many).split(",")]
        roots = {name.partition(".")[0] for name in ([package] if package else names)}
        if SLOW_IMPORTS.intersection(names) or SLOW_PACKAGES.intersection(roots):
            return True
    return False


def is_quick(item: pytest.Item) -> bool:
    """Whether the test is one for every save: `pytest -m quick`."""
    if is_repeated(item) or not isinstance(item, pytest.Function):
        return False
    return not (
        is_slow(item.path)
        or item.get_closest_marker("slow")
        or SLOW_FIXTURES.intersection(item.fixturenames)
        or "mlx" in item.callspec.params.values()
    )


def pytest_collection(session: pytest.Session) -> None:
    """In a fresh clone nothing is compiled yet, and every worker would compile the same file at the
    same time. So each begins with files of its own, and finds most others done."""
    worker = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    quick = session.config.option.markexpr == "quick"
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    number, workers = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
    for file in files[number * len(files) // workers : (number + 1) * len(files) // workers]:
        if not (quick and is_slow(file)):
            # What cannot be imported is reported when it is collected.
            with contextlib.suppress(Exception, pytest.skip.Exception):
                importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files without a quick test are not even imported for `-m quick`."""
    wanted = config.option.markexpr == "quick" and collection_path.name.startswith("test_")
    return True if wanted and collection_path.suffix == ".py" and is_slow(collection_path) else None


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    if is_quick(item):
        item.add_marker("quick")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The sort keeps the order of the others, which is random."""
    rank = {name: n for n, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> tuple[bool, int]:
        by_folder = rank.get(item.path.parent.name, len(rank))
        return is_repeated(item), rank.get(item.path.name, by_folder)

    items.sort(key=place)
