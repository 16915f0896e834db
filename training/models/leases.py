"""How a running job belongs to exactly one process: attempt, lease and heartbeat."""

from __future__ import annotations

import datetime
import uuid
from typing import Any, TypeAlias

from django.db import models
from django.db.models import F
from django.db.models.functions import Coalesce
from django.utils import timezone

from training.models.attempts import TrainingAttempt

START_ALLOWANCE = datetime.timedelta(minutes=3)
"""From the start of a process to its first heartbeat, on an idle machine."""

START_LIMIT = datetime.timedelta(minutes=30)
"""The same for a process that is seen to work: on a busy machine its imports alone take minutes."""

STARTING = "starting"
"""The stage of a job that is claimed until its process reports for the first time."""


class LeaseLost(Exception):
    """This process no longer owns the job: it was requeued, or it ended."""


class Leased(models.Model):
    """The columns of `TrainingJob` that say which process owns it, and how they change."""

    class JobStatus(models.TextChoices):
        QUEUED = "queued", "Queued"
        """Waiting for the worker; `wait_reason` says why."""
        RUNNING = "running", "Running"
        """Leased to one child process, which sends heartbeats."""
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    Status: TypeAlias = JobStatus  # noqa: UP040  # an attribute, too

    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED, editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    completed_at = models.DateTimeField(null=True, editable=False)
    error_message = models.TextField(blank=True, editable=False)
    wait_reason = models.TextField(blank=True, editable=False)
    attempt = models.PositiveIntegerField(default=0, editable=False)
    crashes = models.PositiveIntegerField(
        default=0, editable=False, help_text="In a row, without a new checkpoint between them"
    )
    lease = models.UUIDField(null=True, editable=False, help_text="Live while the job runs")
    heartbeat_at = models.DateTimeField(null=True, editable=False)
    heartbeat_due_at = models.DateTimeField(
        null=True, editable=False, help_text="When the next heartbeat is due"
    )
    not_before = models.DateTimeField(
        null=True, editable=False, help_text="Back-off after a crash, or the next look for memory"
    )
    process_group = models.IntegerField(null=True, editable=False)
    process_started = models.FloatField(
        null=True, editable=False, help_text="Start time of that process: a pid can be reused"
    )

    iteration = models.PositiveIntegerField(default=0, editable=False)
    stage = models.CharField(max_length=40, blank=True, editable=False)
    stage_since = models.DateTimeField(null=True, editable=False)
    yielding = models.CharField(
        max_length=80, blank=True, editable=False, help_text="Why training is paused right now"
    )
    yielding_since = models.DateTimeField(null=True, editable=False)

    class Meta:
        abstract = True

    @property
    def is_over(self) -> bool:
        """Whether the job has finished: completed, failed or cancelled."""
        return self.status not in (self.Status.QUEUED, self.Status.RUNNING)

    def _claim(self, patience_s: float) -> bool:
        """queued → running, if nobody was faster. Runs in the caller's transaction."""
        now = timezone.now()
        claimed = (
            type(self)
            ._default_manager.filter(pk=self.pk, status=self.Status.QUEUED, attempt=self.attempt)
            .update(
                status=self.Status.RUNNING,
                attempt=F("attempt") + 1,
                lease=uuid.uuid4(),
                started_at=Coalesce(F("started_at"), now),
                heartbeat_at=now,
                heartbeat_due_at=now + datetime.timedelta(seconds=patience_s),
                not_before=None,
                process_group=None,
                process_started=None,
                stage=STARTING,
                stage_since=now,
                yielding="",
                yielding_since=None,
                wait_reason="",
                error_message="",
            )
        )
        if claimed:
            TrainingAttempt.begin(self.pk, self.attempt + 1, self.iteration)
        return bool(claimed)

    def beat(self, lease: uuid.UUID, patience_s: float, /, **progress: Any) -> None:
        """Write a heartbeat and progress columns; the next is due in `patience_s`.

        Raises LeaseLost when the lease no longer holds the job.
        """
        now = timezone.now()
        self.write_held(
            lease,
            heartbeat_at=now,
            heartbeat_due_at=now + datetime.timedelta(seconds=patience_s),
            **progress,
        )

    def expect_start(self, lease: uuid.UUID, pid: int, started: float | None) -> None:
        """Record the process of this attempt, and how long it may take until its first heartbeat:
        an interpreter and all its imports start before. Raises LeaseLost."""
        now = timezone.now()
        self.write_held(
            lease,
            process_group=pid,
            process_started=started,
            heartbeat_at=now,
            heartbeat_due_at=now + START_ALLOWANCE,
        )

    def write_held(self, lease: uuid.UUID, /, **columns: Any) -> None:
        """Update columns as the owner of the lease. Raises LeaseLost when it no longer is."""
        held = {"pk": self.pk, "status": self.Status.RUNNING, "lease": lease}
        if not type(self)._default_manager.filter(**held).update(**columns):
            raise LeaseLost(f"Job {self.pk} is no longer held by lease {lease}.")

    def leave_running(self, lease: uuid.UUID, status: Status, /, **columns: Any) -> None:
        """running → `status`, which ends the attempt. Raises LeaseLost when another process has
        already done it.

        The row of an ended job keeps its lease, so that a repeated write can be recognised.
        """
        reached = self.iteration
        over = status != self.Status.QUEUED
        self.write_held(
            lease,
            status=status,
            completed_at=timezone.now() if over else None,
            heartbeat_due_at=None,
            process_group=None,
            process_started=None,
            stage="",
            stage_since=None,
            yielding="",
            yielding_since=None,
            **columns,
        )
        reason = columns.get("error_message") or columns.get("wait_reason", "")
        TrainingAttempt.end(self.pk, reached, status, reason)
