"""Models: what versions are versions of."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q, TextChoices
from django.urls import reverse

from registry.models.bases import BaseModel
from registry.models.constraints import named
from registry.names import (
    validate_name,
)
from registry.task_types import TASK_TYPES
from registry.task_types import TaskType as Proposals


class Model(models.Model):
    """A line of fine-tunes of one base model, for one task."""

    class TaskType(TextChoices):
        CHAT = "chat", "Chat"
        EXTRACTION = "extraction", "Structured extraction"
        CLASSIFICATION = "classification", "Classification"
        SUMMARIZATION = "summarization", "Summarization"
        CODE = "code", "Code"
        OTHER = "other", "Other"

    name = models.CharField(max_length=100, validators=[validate_name])
    task_type = models.CharField(max_length=20, choices=TaskType, default=TaskType.CHAT)
    description = models.TextField(blank=True)
    base_model = models.ForeignKey(BaseModel, on_delete=models.PROTECT, related_name="models")
    mlflow_experiment_id = models.CharField(max_length=64, blank=True, editable=False)
    tags = models.JSONField(default=list, blank=True)
    card_notes = models.TextField(
        blank=True, help_text="Your own text in the model card, in Markdown"
    )
    archived_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at", "-pk")
        constraints: ClassVar = [
            *named("model"),
            models.CheckConstraint(
                condition=Q(
                    task_type__in=[
                        "chat",
                        "extraction",
                        "classification",
                        "summarization",
                        "code",
                        "other",
                    ]
                ),
                name="model_task_type_valid",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["-created_at", "-id"], name="model_newest")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("model", args=[self.pk])

    @property
    def task(self) -> Proposals:
        """What its task proposes."""
        return TASK_TYPES[self.task_type]
