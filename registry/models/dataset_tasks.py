"""Data sets that a child process registers, examines or fixes."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q, TextChoices
from django.db.models.functions import Lower
from django.urls import reverse

from registry.models.datasets import Dataset, DatasetReport
from registry.models.work import Work
from registry.names import validate_name


class DatasetTask(Work):
    """A data set being registered, examined or fixed in a child process, or what became of that:
    what a person watches while a million lines are read."""

    class Kind(TextChoices):
        REGISTER = "register", "Registration"
        EXAMINE = "examine", "Examination"
        ROWS = "rows", "Check of the rows"
        FIX = "fix", "Change of rows"

    label = "dataset"
    command = ("run_dataset_task",)
    counts = ("examples",)

    kind = models.CharField(max_length=10, choices=Kind)
    name = models.CharField(max_length=100, validators=[validate_name])
    source = models.CharField(max_length=500, help_text="What was sent, or the hub id")
    options = models.JSONField(default=dict, help_text="Options of the task")
    examples = models.BigIntegerField(default=0, help_text="Read so far")
    problems = models.JSONField(default=list, help_text="The first errors in examples")
    dataset = models.ForeignKey(
        Dataset, on_delete=models.CASCADE, null=True, related_name="tasks", editable=False
    )
    report = models.ForeignKey(
        DatasetReport, on_delete=models.SET_NULL, null=True, related_name="+", editable=False
    )

    class Meta:
        ordering = ("-created_at", "-pk")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["running", "completed", "failed"]),
                name="datasettask_status_valid",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["register", "examine", "rows", "fix"]),
                name="datasettask_kind_valid",
            ),
            models.UniqueConstraint(
                "kind",
                Lower("name"),
                condition=Q(status="running"),
                name="datasettask_one_running",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.name}"

    @property
    def is_retryable(self) -> bool:
        """Wrong examples stay wrong."""
        return super().is_retryable and not self.problems

    def get_absolute_url(self) -> str:
        return reverse("dataset_task", args=[self.pk])
