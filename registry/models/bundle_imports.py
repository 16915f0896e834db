"""Large bundles that a child process imports."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.urls import reverse

from registry.models.versions import ModelVersion
from registry.models.work import Work


class BundleImport(Work):
    """A large bundle being verified and taken in a child process, or what became of that."""

    label = "bundle"
    command = ("run_bundle_import",)

    name = models.CharField(max_length=121, help_text="The model it is for, @ and its own version")
    source = models.CharField(max_length=500, help_text="The file that was sent")
    options = models.JSONField(default=dict, help_text="Upload, model, base and chosen number")
    version = models.ForeignKey(
        ModelVersion, on_delete=models.SET_NULL, null=True, related_name="+", editable=False
    )

    class Meta:
        ordering = ("-created_at", "-pk")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["running", "completed", "failed"]),
                name="bundleimport_status_valid",
            ),
            models.UniqueConstraint(
                Lower("name"), condition=Q(status="running"), name="bundleimport_one_running"
            ),
        ]

    def __str__(self) -> str:
        return f"Import of {self.name}"

    def get_absolute_url(self) -> str:
        return reverse("bundle_task", args=[self.pk])
