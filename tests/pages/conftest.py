"""Fixtures of the page tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages.seed import Seeded, seed


@pytest.fixture
def seeded(db: None, tmp_path: Path) -> Seeded:
    """A hub that has been used: models, versions, jobs, requests, samples."""
    return seed(tmp_path / "sources", samples=4)
