"""What all rows of work in a child process have in common."""

from __future__ import annotations

from django.db import models
from django.db.models import TextChoices
from django.utils import timezone


class Work(models.Model):
    """Long work in a child process, or what became of it: what a person watches meanwhile."""

    class Status(TextChoices):
        RUNNING = "running", "Running"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"

    status = models.CharField(max_length=10, choices=Status, default=Status.RUNNING)
    stage = models.CharField(max_length=100, blank=True)
    share = models.FloatField(default=0.0, help_text="Of the stage that is done, 0 to 1")
    error_message = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    heartbeat_at = models.DateTimeField(default=timezone.now)

    class Meta:
        abstract = True

    @property
    def is_running(self) -> bool:
        return self.status == Work.Status.RUNNING
