"""A real MLflow for the tests that need one: its embedded store, opened once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.mlflow import tracking


@pytest.fixture(scope="session")
def mlflow_process() -> Iterator[None]:
    """MLflow's process lives from the first test that needs it to the last test of all."""
    yield
    tracking.mlflow.close()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory, mlflow_process: None) -> Path:
    """A store whose tables were made once: making them takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.sqlite3"
    tracking.mlflow.call(f"sqlite:///{path}", "ping", {}, limit_s=300)
    return path


@pytest.fixture
def embedded_mlflow(empty_store: Path, storage: Path) -> Path:
    """The hub's embedded store, with its tables and nothing in them."""
    path = storage / "mlflow.sqlite3"
    shutil.copyfile(empty_store, path)
    return path
