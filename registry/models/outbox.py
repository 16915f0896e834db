"""What is still to be sent to MLflow."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone


class MLflowOutbox(models.Model):
    """What is still to be sent to MLflow. Kept until it is sent, so a dead MLflow never stalls training."""

    operation = models.CharField(max_length=40)
    run_key = models.CharField(
        max_length=100, blank=True, help_text="Entries of one run are delivered in order"
    )
    run_id = models.CharField(max_length=64, blank=True, help_text="MLflow's, once it is known")
    payload = models.JSONField(default=dict)
    attempts = models.PositiveIntegerField(default=0)
    last_error = models.TextField(blank=True)
    not_before = models.DateTimeField(default=timezone.now)
    created_at = models.DateTimeField(auto_now_add=True)
    done_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("pk",)
        verbose_name = "MLflow outbox entry"
        verbose_name_plural = "MLflow outbox"
        indexes: ClassVar = [
            models.Index(fields=["id"], condition=Q(done_at__isnull=True), name="outbox_waiting"),
            models.Index(fields=["run_key", "id"], name="outbox_run"),
        ]

    def __str__(self) -> str:
        return f"{self.operation} #{self.pk}"
