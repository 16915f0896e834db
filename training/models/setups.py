"""From examples to a queued job in one go."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.urls import reverse

from registry.models import Dataset, Model
from registry.models.work import Work
from registry.names import validate_name
from training.models.jobs import TrainingJob


class Setup(Work):
    """A data set, a model and its first job being made of what a person chose on one page. What a
    step made is kept here, so that a retry continues after it."""

    label = "setup"
    command = ("run_setup",)

    name = models.CharField(max_length=100, validators=[validate_name], help_text="Of the model")
    source = models.CharField(max_length=500, help_text="What was sent")
    staged = models.CharField(
        max_length=32, blank=True, db_index=True, help_text="The upload; empty for a data set"
    )
    options = models.JSONField(default=dict, help_text="What was chosen")
    dataset = models.ForeignKey(
        Dataset, on_delete=models.SET_NULL, null=True, related_name="+", editable=False
    )
    model = models.ForeignKey(
        Model, on_delete=models.SET_NULL, null=True, related_name="+", editable=False
    )
    job = models.ForeignKey(
        TrainingJob, on_delete=models.SET_NULL, null=True, related_name="+", editable=False
    )

    class Meta:
        ordering = ("-created_at", "-pk")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["running", "completed", "failed"]),
                name="setup_status_valid",
            ),
            models.UniqueConstraint(
                Lower("name"), condition=Q(status="running"), name="setup_one_running"
            ),
        ]

    def __str__(self) -> str:
        return f"Setup of {self.name}"

    def get_absolute_url(self) -> str:
        return reverse("setup", args=[self.pk])
