"""Backups that the hub makes by itself: when one is due, and whether the newest is too old."""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from django.utils import timezone

from hub.backups import folder
from hub.config import config
from registry.background import children
from registry.errors import Conflict

log = structlog.get_logger(__name__)

RETRY_S = 900.0  # after a backup that failed
LOG = "backup.log"


def newest(place: Path) -> datetime.datetime | None:
    """When the newest backup in `place` was started. Reads names alone."""
    found = folder.backups(place)
    return folder.made_at(found[-1]) if found else None


def every() -> datetime.timedelta:
    return datetime.timedelta(hours=config.backup_every_h)


def age(place: Path) -> datetime.timedelta | None:
    """How old the newest backup is; None without one."""
    moment = newest(place)
    return timezone.now() - moment if moment else None


@dataclass
class Schedule:
    """Starts `manage.py backup` in a process of its own when `HUB_BACKUP_DIR` has no backup that is
    younger than `HUB_BACKUP_EVERY_H`."""

    _tried_at: float = field(default=float("-inf"), repr=False)

    def tick(self) -> bool:
        """Start a backup if one is due; whether it did."""
        place = config.backup_dir
        if place is None or time.monotonic() - self._tried_at < RETRY_S:
            return False
        old = age(place)
        if (old is not None and old < every()) or _is_running(place):
            return False
        self._tried_at = time.monotonic()
        keep = str(config.backup_keep)
        children.start("backup", str(place), "--keep", keep, log=LOG, died=_failed)
        return True


def _failed() -> None:
    log.error("backup failed", log=f"storage/run/{LOG}", retry_in_s=RETRY_S)


def _is_running(place: Path) -> bool:
    if not place.is_dir():
        return False
    try:
        with folder.alone(place):
            return False
    except Conflict:
        return True
