"""What all rows of work in a child process have in common."""

from __future__ import annotations

import datetime
from typing import ClassVar, Self, TypeAlias

from django.db import models
from django.db.models import Q, QuerySet, TextChoices
from django.utils import timezone

from registry.errors import Conflict

SILENCE = datetime.timedelta(minutes=5)
"""A row without a heartbeat for this long has lost its process: longer than the largest file takes
to be hashed and synced, during which nothing beats."""

WAITING = "Waiting to start"
PAUSED = "paused"
"""The status of work that a person stopped, of the kinds that can continue."""
_RECENT = datetime.timedelta(hours=24)


class WorkQuerySet[W: "Work"](QuerySet[W]):
    def up_to_date(self) -> Self:
        """The rows, after those whose process has gone silent are marked as failed."""
        self.fail_silent()
        return self

    def fail_silent(self) -> int:
        """Mark the rows whose process has gone silent as failed; returns how many."""
        silent = self.filter(
            status=Work.Status.RUNNING, heartbeat_at__lt=timezone.now() - SILENCE
        ).order_by("pk")
        return sum(row.fail(row.lost, heartbeat_at=row.heartbeat_at) for row in silent)

    def recent(self) -> Self:
        """What a list shows: work that is running, and what failed within a day."""
        failed = Q(status=Work.Status.FAILED, heartbeat_at__gt=timezone.now() - _RECENT)
        return self.up_to_date().filter(Q(status=Work.Status.RUNNING) | failed)


class Work(models.Model):
    """Long work in a child process, and how it ended. `registry.background.work` starts it,
    reports its progress and retries it."""

    class TaskStatus(TextChoices):
        RUNNING = "running", "Running"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"

    Status: TypeAlias = TaskStatus  # noqa: UP040  # an attribute, too

    label: ClassVar[str]
    """Names its log in `storage/run` and its folders in `storage/staging`."""

    command: ClassVar[tuple[str, ...]]
    """The `manage.py` command that does it, given the row's id."""

    kept_apart: ClassVar[bool] = False
    """Whether its app itself removes old rows, and waits for those that run."""

    counts: ClassVar[tuple[str, ...]] = ()
    """Columns of its own that progress is written to; they only grow."""

    figures: ClassVar[tuple[str, ...]] = ()
    """Columns of its own with the newest figures of a stage; none of another one."""

    status = models.CharField(max_length=10, choices=Status, default=Status.RUNNING)
    stage = models.CharField(max_length=100, blank=True)
    share = models.FloatField(default=0.0, help_text="Of the stage that is done, 0 to 1")
    error_message = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    heartbeat_at = models.DateTimeField(default=timezone.now)

    objects = WorkQuerySet.as_manager()

    class Meta:
        abstract = True

    @property
    def is_running(self) -> bool:
        return self.status == Work.Status.RUNNING

    @property
    def has_failed(self) -> bool:
        return self.status == Work.Status.FAILED

    @property
    def is_paused(self) -> bool:
        return self.status == PAUSED

    @property
    def is_retryable(self) -> bool:
        return self.has_failed or self.is_paused

    @property
    def upload(self) -> str:
        """The folder in `storage/uploads` that it works on, "" for none."""
        name: str = getattr(self, "options", {}).get("upload") or ""
        return name

    @property
    def lost(self) -> str:
        """What a person reads when its process is gone."""
        return "The process ended early and nothing was kept. Retry to start again."

    def write(self, **columns: object) -> bool:
        """Write to a running row, which is a heartbeat; False when it is no longer running."""
        rows = type(self)._default_manager.filter(pk=self.pk, status=Work.Status.RUNNING)
        return bool(rows.update(**{"heartbeat_at": timezone.now(), **columns}))

    def complete(self, **result: object) -> None:
        """Raises Conflict when the row is no longer running: its process was taken for lost."""
        counted = {column: getattr(self, column) for column in self.counts}
        counted |= dict.fromkeys(self.figures)
        done = {"status": Work.Status.COMPLETED, "stage": "Done", "share": 1.0}
        if not self.write(**done, **{**counted, **result}):
            raise Conflict(self.given_up)
        self.refresh_from_db()

    def fail(self, reason: str, **still: object) -> bool:
        """Mark a running row as failed, unless it no longer is as `still` says."""
        rows = type(self)._default_manager.filter(pk=self.pk, status=Work.Status.RUNNING, **still)
        failed = rows.update(
            status=Work.Status.FAILED, error_message=reason, heartbeat_at=timezone.now()
        )
        if failed:
            self.refresh_from_db()
        return bool(failed)

    def take_up(self) -> bool:
        """Let a failed or paused row run again; False when it is neither. Raises IntegrityError when
        other work of its kind and name is running."""
        stopped = (Work.Status.FAILED, PAUSED)
        rows = type(self)._default_manager.filter(pk=self.pk, status__in=stopped)
        taken = rows.update(
            status=Work.Status.RUNNING,
            stage=WAITING,
            share=0.0,
            error_message="",
            heartbeat_at=timezone.now(),
            **dict.fromkeys(self.counts, 0),
            **dict.fromkeys(self.figures),
        )
        if taken:
            self.refresh_from_db()
        return bool(taken)

    @property
    def given_up(self) -> str:
        if self.is_paused:
            return f"{self} was paused; resume it to continue from what has arrived."
        return f"{self} was marked as failed in the meantime; retry it."
