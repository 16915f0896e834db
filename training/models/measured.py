"""A job's measurements, what is kept of long runs of them, and sample answers."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from training.models.jobs import TrainingJob


class TrainingMetric(models.Model):
    """One iteration's measurements; null means not measured at that iteration."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="metrics")
    iteration = models.PositiveIntegerField()
    train_loss = models.FloatField(null=True)
    val_loss = models.FloatField(null=True)
    learning_rate = models.FloatField(null=True)
    grad_norm = models.FloatField(null=True)
    tokens_per_second = models.FloatField(null=True)
    peak_memory_bytes = models.BigIntegerField(null=True)
    created_at = models.DateTimeField(
        default=timezone.now, editable=False, help_text="When it was measured; rows come in batches"
    )

    class Meta:
        ordering = ("iteration",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "iteration"], name="metric_unique"),
        ]
        indexes: ClassVar = [
            # One step in hundreds is validated; without it they are searched for among all.
            models.Index(
                fields=["job", "iteration", "val_loss"],
                condition=models.Q(val_loss__isnull=False),
                name="metric_validated",
            ),
        ]

    def __str__(self) -> str:
        return f"job {self.job_id} iteration {self.iteration}"


class MetricSpan(models.Model):
    """64 successive iterations of a long run in one row: the means, of memory the most, and of what is
    noisy the least and the most too. `registry/versions/curves.py` writes and reads them."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="spans")
    number = models.PositiveIntegerField(help_text="Of its iterations, each divided by 64")
    train_loss = models.FloatField(null=True)
    train_loss_low = models.FloatField(null=True)
    train_loss_high = models.FloatField(null=True)
    val_loss = models.FloatField(null=True)
    learning_rate = models.FloatField(null=True)
    grad_norm = models.FloatField(null=True)
    grad_norm_low = models.FloatField(null=True)
    grad_norm_high = models.FloatField(null=True)
    tokens_per_second = models.FloatField(null=True)
    tokens_per_second_low = models.FloatField(null=True)
    tokens_per_second_high = models.FloatField(null=True)
    peak_memory_bytes = models.BigIntegerField(null=True)

    class Meta:
        ordering = ("number",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "number"], name="span_unique"),
        ]

    def __str__(self) -> str:
        return f"job {self.job_id} span {self.number}"


class TrainingSample(models.Model):
    """The answer of the model in training to a validation prompt at one iteration."""

    job = models.ForeignKey(TrainingJob, on_delete=models.CASCADE, related_name="samples")
    iteration = models.PositiveIntegerField()
    line = models.PositiveIntegerField(help_text="Of valid.jsonl, from 1")
    prompt = models.TextField()
    expected = models.TextField(blank=True)
    answer = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("iteration", "line")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "iteration", "line"], name="sample_unique"),
        ]

    def __str__(self) -> str:
        return f"job {self.job_id} iteration {self.iteration} line {self.line}"
