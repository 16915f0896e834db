"""Fixtures for every test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.engine.memory import neighbours
from inference.gateway import database
from registry.storage import paths
from tests.running import running_hub

__all__ = ["running_hub", "storage"]

pytest_plugins = ["tests.databases"]


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, settings: object) -> Path:
    """A storage folder of the test's own, with its folders made."""
    folder = tmp_path / "storage"
    settings.STORAGE = folder  # type: ignore[attr-defined]
    paths.make_folders()
    return folder


@pytest.fixture(autouse=True)
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine in the test's process asks nobody: the hub's answer needs a database."""
    monkeypatch.setattr(neighbours, "_present", neighbours.Nobody())


@pytest.fixture(autouse=True)
def no_kept_connection() -> Iterator[None]:
    """A test database cannot be dropped while a thread of this process still is connected."""
    yield
    database.close()
