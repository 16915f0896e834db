"""Training jobs. The row decides; Huey only wakes the worker.

Every status change is one conditional update that names the old status and, while a job runs, its
lease. If another process was faster, the update changes nothing and the caller learns that.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import ClassVar

from django.apps import apps
from django.db import IntegrityError, models, transaction
from django.db.models import OuterRef, Q, Subquery
from django.urls import reverse
from django.utils import timezone

from backends.base import TrainingConfig
from registry import traces
from registry.models import BaseModel, Dataset, Model, ModelVersion
from registry.names import SEMVER_PATTERN, validate_semver
from training.models.progress import Progressing
from training.models.remaining import Remaining, remaining
from training.models.sweeps import Sweep


class TrainingJobQuerySet(models.QuerySet["TrainingJob"]):
    def waiting(self) -> TrainingJobQuerySet:
        """Queued jobs in the order they run, including paused ones."""
        return self.filter(status=TrainingJob.Status.QUEUED).order_by(
            "-priority", "position", "created_at", "pk"
        )

    def due(self) -> TrainingJobQuerySet:
        """Queued jobs that may start now, next one first."""
        may_start = Q(not_before__isnull=True) | Q(not_before__lte=timezone.now())
        return self.waiting().filter(may_start, paused=False)

    def running(self) -> TrainingJobQuerySet:
        return self.filter(status=TrainingJob.Status.RUNNING)

    def held(self, job_id: int, lease: uuid.UUID) -> TrainingJobQuerySet:
        """The running job while this lease holds it, else nothing."""
        return self.running().filter(pk=job_id, lease=lease)

    def with_losses(self) -> TrainingJobQuerySet:
        """Adds `train_loss` and `val_loss`: the newest measured value of each, or None."""
        newest = (
            apps.get_model("training", "TrainingMetric")
            ._default_manager.filter(job=OuterRef("pk"))
            .order_by("-iteration")
        )
        return self.annotate(
            **{
                loss: Subquery(newest.filter(**{f"{loss}__isnull": False}).values(loss)[:1])
                for loss in ("train_loss", "val_loss")
            }
        )

    def claim_next(
        self, patience_s: float, admits: Callable[[TrainingJob], bool] = lambda job: True
    ) -> TrainingJob | None:
        """Take the next due job that `admits` accepts, under a new lease; its first heartbeat is due
        in `patience_s`. None when no job is due or another one is running.

        Safe to call from any number of processes. A job that is not admitted is skipped in this
        call; `admits` should make it not due for a while.
        """
        skipped: set[int] = set()
        while not self.running().exists():
            job = self.due().exclude(pk__in=skipped).first()
            if job is None:
                return None
            if not admits(job):
                skipped.add(job.pk)
                continue
            try:
                with transaction.atomic():
                    claimed = job._claim(patience_s)
            except IntegrityError:  # job_one_running: another job was claimed in the meantime
                return None
            if claimed:
                job.refresh_from_db()
                return job
        return None


class TrainingJob(Progressing):
    """One fine-tuning run, from the queue to the version it creates."""

    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="jobs")
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="jobs")
    config = models.JSONField(help_text="backends.base.TrainingConfig")
    priority = models.IntegerField(default=0, help_text="Higher runs first")
    position = models.BigIntegerField(
        default=0, editable=False, help_text="Among jobs of the same priority; lower runs first"
    )
    sweep = models.ForeignKey(
        Sweep, on_delete=models.SET_NULL, null=True, related_name="jobs", editable=False
    )
    varied = models.JSONField(
        default=dict,
        editable=False,
        help_text="Settings that differ within its sweep, by dotted name",
    )
    cloned_from = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, related_name="clones", editable=False
    )
    created_at = models.DateTimeField(auto_now_add=True)
    cancel_requested = models.BooleanField(default=False, editable=False)
    paused = models.BooleanField(
        default=False,
        editable=False,
        help_text="A paused job is not started; a running one returns to the queue at its next step",
    )
    out_of_memory = models.BooleanField(
        default=False, editable=False, help_text="The last attempt ran out of memory"
    )
    batch_size_before = models.PositiveIntegerField(
        null=True, editable=False, help_text="Before it was halved because memory ran out"
    )
    correlation_id = models.CharField(max_length=64, blank=True, editable=False)
    traceparent = models.CharField(
        max_length=55, blank=True, editable=False, help_text="Of the request that queued it (W3C)"
    )
    version_number = models.CharField(
        max_length=20,
        blank=True,
        editable=False,
        validators=[validate_semver],
        help_text="Number chosen for the version; empty uses the proposed one",
    )
    result_version = models.OneToOneField(
        ModelVersion, on_delete=models.PROTECT, null=True, related_name="job", editable=False
    )
    reproduces = models.ForeignKey(
        ModelVersion,
        on_delete=models.PROTECT,
        null=True,
        related_name="reproductions",
        editable=False,
        help_text="The version to train again; the job makes no new one",
    )

    objects = TrainingJobQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at", "-pk")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["queued", "running", "completed", "failed", "cancelled"]),
                name="job_status_valid",
            ),
            models.UniqueConstraint(
                fields=["status"], condition=Q(status="running"), name="job_one_running"
            ),
            models.CheckConstraint(
                condition=~Q(status="running") | Q(lease__isnull=False),
                name="job_running_has_lease",
            ),
            models.CheckConstraint(
                condition=Q(version_number="") | Q(version_number__regex=SEMVER_PATTERN),
                name="job_version_number_valid",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["status", "-priority", "position"], name="job_order"),
            # Includes the status, so that a late page of finished jobs is found by this index alone.
            models.Index(fields=["-created_at", "-id", "status"], name="job_newest"),
            models.Index(fields=["memory_family", "-completed_at"], name="job_family"),
            models.Index(fields=["status", "-created_at", "-id"], name="job_newest_of_status"),
            models.Index(fields=["model", "-created_at", "-id"], name="job_newest_of_model"),
            models.Index(fields=["correlation_id"], name="job_correlation"),
            models.Index(fields=["completed_at"], name="job_ended"),
        ]

    def __str__(self) -> str:
        return f"job {self.pk} ({self.model.name})"

    def get_absolute_url(self) -> str:
        return reverse("job", args=[self.pk])

    @property
    def trace_url(self) -> str:
        """Where its trace is shown; empty when it has none, or nobody said where."""
        return traces.url(traces.trace_id(self.traceparent))

    @property
    def training_config(self) -> TrainingConfig:
        """The stored configuration, validated. Raises pydantic's ValidationError."""
        return TrainingConfig.recorded(self.config)

    @property
    def base_model(self) -> BaseModel:
        """The base to fine-tune: the model's, or that of the version being reproduced."""
        return self.reproduces.base_model if self.reproduces else self.model.base_model

    @property
    def is_paused(self) -> bool:
        """Whether the job waits in the queue until someone resumes it."""
        return self.paused and self.status == self.Status.QUEUED

    @property
    def is_pausing(self) -> bool:
        """Whether the running job goes back to the queue at its next step."""
        return self.paused and self.status == self.Status.RUNNING

    @property
    def can_halve(self) -> bool:
        """Whether a retry with half the batch size is offered: once, after running out of memory."""
        return self.status == self.Status.FAILED and self.out_of_memory and self.may_halve

    @property
    def may_halve(self) -> bool:
        """Whether the batch can be halved and was not halved before. A reproduction's cannot: with
        another batch size it would not reproduce anything."""
        whole = self.batch_size_before is None and self.reproduces_id is None
        return whole and int(self.config.get("batch_size", 1)) > 1

    @property
    def resumes_at(self) -> int:
        """The step after which the next attempt continues: that of the checkpoint, or the last one
        when the version is ready and only has to be scored."""
        version = self.result_version
        trained = version is not None and version.status == ModelVersion.Status.READY
        return self.iteration if trained else self.checkpoint_iteration

    @property
    def total_iters(self) -> int:
        """Optimizer steps of the whole run; with `epochs` an estimate until the data is read."""
        return self.iters or int(self.config.get("iters", 0))

    @property
    def progress(self) -> float:
        """Fraction of iterations done, 0 to 1. Early stopping can complete a job before the last."""
        if self.status == self.Status.COMPLETED:
            return 1.0
        return min(1.0, self.iteration / self.total_iters) if self.total_iters else 0.0

    @property
    def remaining(self) -> Remaining:
        """How long the running job still takes, scoring included."""
        every = max(1, int(self.config.get("steps_per_eval", 1)))
        return remaining(self, self.total_iters, every, self.is_scored)

    @property
    def is_scored(self) -> bool:
        """Whether answers of the result are scored at the end."""
        scoring = self.config.get("scoring", {})
        answered = scoring.get("scorer", "task") != "none" and self.dataset.splits.get("test")
        return bool(self.reproduces_id is None and (answered or scoring.get("lm_eval")))

    @property
    def seconds_left(self) -> float | None:
        """Of all parts of the running job whose time is known; None while that is none."""
        return self.remaining.seconds
