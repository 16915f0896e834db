"""Exports of versions that a child process makes."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q, TextChoices

from registry.models.versions import ModelVersion
from registry.models.work import Work


class ExportTask(Work):
    """An export of a version being made in a child process, and what became of it. Its file lies in
    `storage/exports`; one row for each version and form."""

    class Form(TextChoices):
        ADAPTER = "adapter", "Adapter"
        FUSED = "fused", "Fused model"
        GGUF = "gguf", "GGUF file"

    label = "export"
    command = ("export", "--row")

    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="exports")
    form = models.CharField(max_length=10, choices=Form)

    class Meta:
        ordering = ("-created_at", "-pk")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["running", "completed", "failed"]),
                name="exporttask_status_valid",
            ),
            models.CheckConstraint(
                condition=Q(form__in=["adapter", "fused", "gguf"]), name="exporttask_form_valid"
            ),
            models.UniqueConstraint(fields=("version", "form"), name="exporttask_unique"),
        ]

    def __str__(self) -> str:
        return f"Export of {self.version} as {self.form}"
