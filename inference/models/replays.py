"""Requests that one version answered, asked again of another."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from inference.models.requests import InferenceRequest, shown
from registry.models import ModelVersion


class Replay(models.Model):
    """The requests of `source` in a span of time, answered by `target`. Shares are 0 to 1."""

    class Status(models.TextChoices):
        RUNNING = "running", "Running"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"

    source = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="replays_of")
    target = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="replays")
    since = models.DateTimeField()
    until = models.DateTimeField()
    status = models.CharField(max_length=10, choices=Status, default=Status.RUNNING)
    total = models.PositiveIntegerField(default=0, help_text="Requests chosen")
    skipped = models.PositiveIntegerField(
        default=0, help_text="Sampled without a seed: no answer could be the same"
    )
    asked = models.PositiveIntegerField(default=0, help_text="Answered so far")
    agreed = models.PositiveIntegerField(default=0, help_text="With the same answer")
    agreement = models.FloatField(null=True, help_text="Share of the same answers")
    similarity = models.FloatField(null=True, help_text="Mean likeness of the texts")
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    heartbeat_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-created_at", "-pk")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["running", "completed", "failed"]),
                name="replay_status_valid",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source} → {self.target}"

    def get_absolute_url(self) -> str:
        return reverse("replay", args=[self.pk])

    def give_up(self, reason: str) -> None:
        """Mark as failed, unless it has ended already."""
        Replay.objects.filter(pk=self.pk, status=self.Status.RUNNING).update(
            status=self.Status.FAILED, error=reason
        )


class ReplayAnswer(models.Model):
    """One request, what was answered then and what is answered now."""

    replay = models.ForeignKey(Replay, on_delete=models.CASCADE, related_name="answers")
    request = models.ForeignKey(InferenceRequest, on_delete=models.SET_NULL, null=True)
    prompt = models.JSONField()
    before = models.TextField()
    after = models.TextField(blank=True)
    same = models.BooleanField(default=False)
    similarity = models.FloatField(default=0.0)
    error = models.TextField(blank=True, help_text="Why there is no answer now")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"{self.replay_id}: {self.similarity:.3f}"

    @property
    def prompt_text(self) -> str:
        """The prompt for a person."""
        return shown(self.prompt)
