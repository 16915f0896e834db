"""Fixtures of the page tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages.kept import Kept
from tests.pages.seed import Seeded


@pytest.fixture(scope="session")
def kept_hubs(database: str) -> list[Kept]:
    """The one that this process has made in `database`, once it has."""
    return []


@pytest.fixture
def seeded(
    db: None, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, kept_hubs: list[Kept]
) -> Seeded:
    """A hub that has been used: models, versions, jobs, requests, samples."""
    if not kept_hubs:
        kept_hubs.append(Kept.make(tmp_path, tmp_path_factory.mktemp("kept")))
        return kept_hubs[0].seeded
    return kept_hubs[0].put_back(tmp_path)
