"""Backups that the hub makes by itself: when one is due, and what health says of the newest."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from hub.backups import folder, schedule
from hub.config import load
from hub.management.commands import backup
from hub.monitoring import health, metrics
from registry.background import children

pytestmark = pytest.mark.any_database


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    config = load(backup_dir=tmp_path / "backups", backup_every_h=2, backup_keep=3)
    for module in (schedule, health, metrics):
        monkeypatch.setattr(module, "config", config)
    return tmp_path / "backups"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    monkeypatch.setattr(children, "start", lambda *a, **_: found.append(a))
    return found


def old(place: Path, **age: float) -> None:
    moment = timezone.now() - datetime.timedelta(**age)
    folder.name_for(place, moment).mkdir(parents=True)


def test_a_backup_is_started_when_one_is_due(place: Path, started: list[Any]) -> None:
    assert schedule.Schedule().tick()
    assert started == [("backup", str(place), "--keep", "3")]
    read = backup.Command().create_parser("manage.py", "backup").parse_args(started[0][1:])
    assert (read.folder, read.keep) == (place, 3)
    old(place, hours=3)
    due = schedule.Schedule()
    with folder.alone(place):
        assert not due.tick()  # somebody makes one
    assert due.tick()
    assert not due.tick()  # one that fails at once is not started again every few seconds
    old(place, hours=1)
    assert not schedule.Schedule().tick()
    assert len(started) == 2


def test_no_backup_is_started_without_a_folder(started: list[Any]) -> None:
    assert not schedule.Schedule().tick()
    assert started == []


def test_health_says_when_the_newest_is_too_old(place: Path) -> None:
    assert health._backup(place).reason == f"No backup yet in {place}."
    old(place, hours=5)
    assert health._backup(place).status == "warning"
    assert "backup.log" in health._backup(place).reason
    old(place, hours=3)
    assert health._backup(place).status == "ok"


def test_the_age_of_the_newest_is_a_metric(place: Path) -> None:
    assert list(metrics._backup()) == []
    old(place, hours=1)
    (family,) = metrics._backup()
    assert 3599 < family.samples[0].value < 3700


def test_a_folder_inside_storage_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        load(storage=tmp_path, backup_dir=tmp_path / "backups")
    assert "HUB_BACKUP_DIR is inside the storage folder" in capsys.readouterr().err
