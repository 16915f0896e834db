"""The attempts of a job: each is one process, from its claim to its end."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone


class TrainingAttempt(models.Model):
    """One attempt; without `ended_at` it runs."""

    job = models.ForeignKey(
        "training.TrainingJob", on_delete=models.CASCADE, related_name="attempts"
    )
    number = models.PositiveIntegerField(help_text="The job's `attempt` while it ran")
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    first_iteration = models.PositiveIntegerField(
        default=0, help_text="The step of the checkpoint from which it continued"
    )
    iteration = models.PositiveIntegerField(default=0, help_text="The last step that it reported")
    became = models.CharField(
        max_length=10, blank=True, help_text="The job's status after it: queued is tried again"
    )
    reason = models.TextField(blank=True, help_text="Why it ended before the job was completed")

    class Meta:
        ordering = ("number",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "number"], name="attempt_unique"),
        ]

    def __str__(self) -> str:
        return f"job {self.job_id} attempt {self.number}"

    @classmethod
    def begin(cls, job_id: int, number: int, first_iteration: int) -> None:
        """The job was claimed for its attempt `number`."""
        cls._default_manager.create(
            job_id=job_id,
            number=number,
            started_at=timezone.now(),
            first_iteration=first_iteration,
            iteration=first_iteration,
        )

    @classmethod
    def end(cls, job_id: int, iteration: int, became: str, reason: str) -> None:
        """The job's running attempt ended after step `iteration`, and the job `became` this."""
        running = cls._default_manager.filter(job=job_id, ended_at=None)
        running.update(ended_at=timezone.now(), iteration=iteration, became=became, reason=reason)
