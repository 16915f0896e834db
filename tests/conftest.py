"""Fixtures for every test."""

from pathlib import Path

import pytest

from registry import paths
from tests.running import running_hub

__all__ = ["running_hub", "storage"]


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, settings: object) -> Path:
    """A storage folder of the test's own, with its folders made."""
    folder = tmp_path / "storage"
    settings.STORAGE = folder  # type: ignore[attr-defined]
    paths.make_folders()
    return folder
