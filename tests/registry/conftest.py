"""A real MLflow for the tests that need one: its embedded store, opened once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.mlflow import tracking
from tests.running import put_mlflow_store


@pytest.fixture(scope="session")
def mlflow_process() -> Iterator[None]:
    """MLflow's process lives from the first test that needs it to the last test of all."""
    yield
    tracking.mlflow.close()


@pytest.fixture
def embedded_mlflow(mlflow_process: None, storage: Path) -> Path:
    """The hub's embedded store, with its tables and nothing in them."""
    path = storage / "mlflow.sqlite3"
    put_mlflow_store(path)
    return path
