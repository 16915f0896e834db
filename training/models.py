"""Training jobs and their metrics. The row is the truth; Huey only rings the doorbell."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.urls import reverse

from registry.models import Dataset, Model, ModelVersion


class TrainingJob(models.Model):
    """One fine-tuning run, from the queue to the version it made."""

    class Status(models.TextChoices):
        QUEUED = "queued", "Queued"
        """Waits for the worker; `wait_reason` says for what."""
        RUNNING = "running", "Running"
        """Leased to one child process that sends heartbeats."""
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="jobs")
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="jobs")
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED, editable=False)
    config = models.JSONField(help_text="backends.base.TrainingConfig")
    priority = models.IntegerField(default=0, help_text="Higher runs first")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, editable=False)
    completed_at = models.DateTimeField(null=True, editable=False)
    error_message = models.TextField(blank=True, editable=False)
    wait_reason = models.TextField(blank=True, editable=False)
    cancel_requested = models.BooleanField(default=False, editable=False)

    attempt = models.PositiveIntegerField(default=0, editable=False)
    lease = models.UUIDField(null=True, editable=False)
    heartbeat_at = models.DateTimeField(null=True, editable=False)
    not_before = models.DateTimeField(null=True, editable=False, help_text="Back-off after a crash")
    process_group = models.IntegerField(null=True, editable=False)
    process_started = models.FloatField(
        null=True, editable=False, help_text="Start time of that process: a pid can be reused"
    )

    iteration = models.PositiveIntegerField(default=0, editable=False)
    stage = models.CharField(max_length=40, blank=True, editable=False)
    tokens_per_second = models.FloatField(null=True, editable=False)
    peak_memory_bytes = models.BigIntegerField(null=True, editable=False)
    memory_estimate_bytes = models.BigIntegerField(null=True, editable=False)

    correlation_id = models.CharField(max_length=64, blank=True, editable=False)
    mlflow_run_id = models.CharField(max_length=64, blank=True, editable=False)
    result_version = models.OneToOneField(
        ModelVersion, on_delete=models.PROTECT, null=True, related_name="job", editable=False
    )

    class Meta:
        ordering = ("-created_at",)
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
        ]
        indexes: ClassVar = [
            models.Index(fields=["status", "-priority", "created_at"], name="job_queue"),
            models.Index(fields=["-created_at"]),
        ]

    def __str__(self) -> str:
        return f"job {self.pk} ({self.model.name})"

    def get_absolute_url(self) -> str:
        return reverse("job", args=[self.pk])


class TrainingMetric(models.Model):
    """One iteration's measurements; a null was not measured at that iteration."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="metrics")
    iteration = models.PositiveIntegerField()
    train_loss = models.FloatField(null=True)
    val_loss = models.FloatField(null=True)
    learning_rate = models.FloatField(null=True)
    grad_norm = models.FloatField(null=True)
    tokens_per_second = models.FloatField(null=True)
    peak_memory_bytes = models.BigIntegerField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("iteration",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "iteration"], name="metric_unique"),
        ]

    def __str__(self) -> str:
        return f"job {self.job_id} iteration {self.iteration}"
