"""What agents and client libraries need of a version, asked and judged."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.urls import reverse

from registry.models import BaseModel, ModelVersion
from registry.models.work import Work


class ClientCheck(Work):
    """The outcomes of `version`, beside those of the base model that it stands on; without a version
    those of the base alone. `inference.clients.suite.Outcome` says what an outcome is."""

    label = "client-check"
    kept_apart = True
    command = ("run_client_check",)
    counts = ("asked",)

    version = models.ForeignKey(
        ModelVersion, on_delete=models.CASCADE, null=True, related_name="client_checks"
    )
    base_model = models.ForeignKey(
        BaseModel, on_delete=models.CASCADE, related_name="client_checks"
    )
    suite = models.CharField(max_length=12, help_text="Changes with what is asked")
    total = models.PositiveIntegerField(default=0, help_text="Behaviours to try")
    asked = models.PositiveIntegerField(default=0, help_text="Tried so far")
    outcomes = models.JSONField(default=list)
    base_outcomes = models.JSONField(default=list)

    class Meta:
        ordering = ("-created_at", "-pk")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["running", "completed", "failed"]),
                name="clientcheck_status_valid",
            ),
        ]

    def __str__(self) -> str:
        return f"clients of {self.name}"

    @property
    def name(self) -> str:
        """As requests name what is checked."""
        return str(self.version) if self.version else f"base:{self.base_model.name}"

    def get_absolute_url(self) -> str:
        if self.version is None:
            return reverse("base_clients", args=[self.base_model_id])
        return reverse("client_checks", args=[self.version.model_id, self.version.version])

    @property
    def lost(self) -> str:
        return (
            "The process ended early; start a new check. Its log is "
            f"storage/run/{self.label}-{self.pk}.log."
        )
