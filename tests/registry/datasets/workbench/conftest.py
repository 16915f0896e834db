"""A data set whose rows are checked, for its pages and its API."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.background import work
from registry.datasets.workbench.findings import Findings
from registry.models import DatasetTask
from tests.registry.build import recorder
from tests.registry.datasets.workbench.build import make_findings


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[DatasetTask]:
    rows: list[DatasetTask] = []
    monkeypatch.setattr(work, "launch", recorder(rows))
    return rows


@pytest.fixture
def found(tmp_path: Path, started: list[DatasetTask]) -> Findings:
    return make_findings(tmp_path / "source")
