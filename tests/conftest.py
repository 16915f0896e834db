"""Fixtures for every test."""

import contextlib
import gc
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from pytest_django import Settings

from inference.engine.memory import neighbours
from inference.gateway import database
from registry.storage import paths
from registry.versions import lineage
from tests import running
from tests.mac import charged, compiled, libsystem, mac
from tests.running import ROOT, leave_unmeasured, running_hub

__all__ = ["charged", "compiled", "libsystem", "mac", "running_hub", "storage"]

pytest_plugins = ["tests.databases", "tests.order"]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Iterator[None]:
    """Almost all that is imported and collected stays, so nothing looks through it on the way."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """What was imported and collected stays. A training ends with a full collection, which would
    look through all of it each time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """So does what the tests of a file have imported and cached."""
    yield
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """What a test's own process writes need not outlive a power failure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_look_at_the_checkout() -> Iterator[None]:
    """Every version asks git and the installed packages where it comes from. For the hub's own
    checkout the answer stays the same."""
    look, known = lineage.collect, dict[str, lineage.Lineage]()

    def collect() -> lineage.Lineage:
        if settings.BASE_DIR != ROOT:
            return look()
        if settings.BACKEND not in known:
            known[settings.BACKEND] = look()
        return known[settings.BACKEND]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lineage, "collect", collect)
        yield


@pytest.fixture
def storage(tmp_path: Path, settings: Settings) -> Path:
    """A storage folder of the test's own, with its folders made."""
    folder = tmp_path / "storage"
    settings.STORAGE = folder
    paths.make_folders()
    return folder


_UNUSED = pytest.StashKey[Path]()


@pytest.fixture(autouse=True)
def storage_of_no_other_test(request: pytest.FixtureRequest) -> None:
    """Each test that has a database or asks for it has a `storage`. To make and remove its dozen
    folders takes as long as all else around a test, so the others get one that nothing is in yet."""
    from tests.databases import asks_for_database  # a plug-in: pytest imports it first

    if "storage" in request.fixturenames or asks_for_database(request.node):
        request.getfixturevalue("storage")
        return
    folder = request.config.stash.get(_UNUSED, None)
    if folder is None or not _is_unused(folder):
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        folder = request.getfixturevalue("tmp_path_factory").mktemp("storage")
        request.config.stash[_UNUSED] = folder
        settings.STORAGE = folder
        paths.make_folders()
    settings.STORAGE = folder


def _is_unused(folder: Path) -> bool:
    """Whether `folder` is still what `make_folders` leaves."""
    if not folder.exists() or {path.name for path in folder.iterdir()} != set(paths.FOLDERS):
        return False
    return not any(any((folder / name).iterdir()) for name in paths.FOLDERS)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with quick_ones_start_no_interpreter(item):
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with quick_ones_start_no_interpreter(item):
        yield


@contextlib.contextmanager
def quick_ones_start_no_interpreter(item: pytest.Item) -> Iterator[None]:
    """Nor a browser, in a fixture of any scope: other programs end within milliseconds."""
    if not item.get_closest_marker("quick"):
        yield
        return
    start = subprocess.Popen.__init__

    def refuse(self: subprocess.Popen[Any], args: Any, *others: Any, **named: Any) -> None:
        program = Path(args if isinstance(args, str) else os.fspath(args[0])).name
        slow = program.startswith(("python", "node", "chromium", "postgres"))
        if slow and not running.making_for_all:
            pytest.fail(f"A quick test starts {program}; mark it as slow.")
        start(self, args, *others, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", refuse)
        yield


@pytest.fixture
def unmeasured_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """For files that start many processes, whose modules other files measure."""
    leave_unmeasured(monkeypatch)


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine in the test's process asks nobody: the hub's answer needs a database."""
    monkeypatch.setattr(neighbours, "_present", neighbours.Nobody())


@pytest.fixture(autouse=True)
def no_kept_connection() -> Iterator[None]:
    """A test database cannot be dropped while a thread of this process still is connected."""
    yield
    database.close()
