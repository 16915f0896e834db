"""Requests that one version answered, asked again of another."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.urls import reverse

from inference.models.requests import InferenceRequest, shown
from registry.models import ModelVersion
from registry.models.work import Work


class Replay(Work):
    """The requests of `source` in a span of time, answered by `target`. Agreement and similarity
    are 0 to 1."""

    label = "replay"
    kept_apart = True
    command = ("run_replay",)
    counts = ("asked", "agreed")

    source = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="replays_of")
    target = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="replays")
    since = models.DateTimeField()
    until = models.DateTimeField()
    total = models.PositiveIntegerField(default=0, help_text="Requests chosen")
    skipped = models.PositiveIntegerField(
        default=0, help_text="Sampled without a seed, so answers cannot be compared"
    )
    asked = models.PositiveIntegerField(default=0, help_text="Answered so far")
    agreed = models.PositiveIntegerField(default=0, help_text="With the same answer")
    agreement = models.FloatField(null=True, help_text="Share of the same answers")
    similarity = models.FloatField(null=True, help_text="Mean similarity of the texts")
    error_message = models.TextField(blank=True, db_column="error")

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

    @property
    def of_one(self) -> bool:
        """Whether a person chose this one request; see `inference.replay.plan_one`."""
        return self.since == self.until

    @property
    def lost(self) -> str:
        return f"The process ended early; start a new replay. Its log is storage/run/replay-{self.pk}.log."


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
