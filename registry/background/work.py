"""How a row of `Work` tells what its child process does, and what others make of its silence."""

from __future__ import annotations

import datetime
import time
from typing import Any, ClassVar

from django.db.models import Q, QuerySet
from django.utils import timezone

from registry.errors import Conflict
from registry.models import BaseImport, BundleImport, DatasetTask
from registry.models.bases import RESUMABLE
from registry.models.work import Work

WAITING = "Waiting to start"

_TELL_EVERY_S = 0.2
_SHOWN_FOR = datetime.timedelta(hours=24)
Status = Work.Status


class Teller:
    """Writes progress to the row, at most five times a second; every write is a heartbeat.

    Raises Conflict when the row is no longer running: somebody took the silence for the end.
    """

    columns: ClassVar[tuple[str, ...]] = ("stage", "share")

    def __init__(self, row: Work) -> None:
        self.row, self.told = row, 0.0

    def stage(self, text: str) -> None:
        self.row.stage, self.row.share = text, 0.0
        self._write()

    def part(self, share: float) -> None:
        self.row.share = share
        self.beat()

    def beat(self) -> None:
        if time.monotonic() - self.told >= _TELL_EVERY_S:
            self._write()

    def _write(self) -> None:
        self.told = time.monotonic()
        changed = {column: getattr(self.row, column) for column in self.columns}
        if not running(self.row).update(**changed, heartbeat_at=timezone.now()):
            raise Conflict(f"{self.row} was given up meanwhile.")


def running(row: Work) -> QuerySet[Any]:
    """The row as long as it runs, else nothing."""
    return type(row)._default_manager.filter(pk=row.pk, status=Status.RUNNING)


def end(row: Work, **changes: object) -> bool:
    """Write how running work ended; whether it still ran."""
    ended = running(row).update(heartbeat_at=timezone.now(), **changes)
    row.refresh_from_db()
    return bool(ended)


def take_up(row: Work, **changes: object) -> bool:
    """Let failed work run again; whether it had failed. Raises IntegrityError when other work
    stands against it."""
    failed = type(row)._default_manager.filter(pk=row.pk, status=Status.FAILED)
    taken = failed.update(
        status=Status.RUNNING,
        stage=WAITING,
        share=0.0,
        error_message="",
        heartbeat_at=timezone.now(),
        **changes,
    )
    row.refresh_from_db()
    return bool(taken)


def silent[W: Work](rows: QuerySet[W], silence: datetime.timedelta) -> QuerySet[W]:
    """Those of `rows` that are said to run, but have not been heard of."""
    return rows.filter(status=Status.RUNNING, heartbeat_at__lt=timezone.now() - silence)


def in_sight[W: Work](rows: QuerySet[W]) -> QuerySet[W]:
    """What a list shows: work that runs, and what failed lately."""
    lately = timezone.now() - _SHOWN_FOR
    return rows.filter(Q(status=Status.RUNNING) | Q(status=Status.FAILED, heartbeat_at__gt=lately))


def prune(before: datetime.datetime) -> int:
    """Delete rows of work that ended before then, of imports of base models, too; how many. What
    they made stays, and knows itself where it comes from; what they had kept for a retry is a
    leftover long since (see `gc`). A failed import of a base stays as long as its download, which
    only its retry can go on with."""
    deleted = 0
    for kind in (DatasetTask, BundleImport, BaseImport):
        over = kind.objects.exclude(status=Status.RUNNING).filter(heartbeat_at__lt=before)
        if kind is BaseImport:
            lately = timezone.now() - RESUMABLE
            over = over.exclude(status=Status.FAILED, heartbeat_at__gt=lately)
        deleted += over.delete()[0]
    return deleted
