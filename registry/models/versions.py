"""Versions, and where each came from."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

from django.db import models
from django.db.models import CharField, F, Q, TextChoices, Value
from django.db.models.functions import Cast, Concat
from django.urls import reverse

from registry.models.bases import BaseModel
from registry.models.constraints import SHA256_PATTERN
from registry.models.datasets import Dataset
from registry.models.models import Model
from registry.names import (
    parse_semver,
    validate_semver,
)

_COUNTED = 10_000
"""Requests, after which a page says that there are more."""


class ModelVersionQuerySet(models.QuerySet["ModelVersion"]):
    def ready(self) -> ModelVersionQuerySet:
        return self.filter(status=ModelVersion.Status.READY)

    def last_served(self) -> ModelVersion | None:
        """The newest that can be served, with its model. First which one, without a join: for that
        SQLite would sort all versions with all that they hold."""
        archived = Model.objects.exclude(archived_at=None).values("pk")
        served = self.ready().filter(moving_to="").exclude(model__in=archived)
        newest = served.order_by("-pk").values("pk")[:1]
        return self.filter(pk__in=newest).select_related("model").first()

    def selected(self, selector: str) -> ModelVersionQuerySet:
        """Those with this number, or that an alias of this name points at."""
        field = "version" if selector[:1].isdigit() else "aliases__name"
        return self.filter(**{field: selector})

    def newest_first(self) -> ModelVersionQuerySet:
        """By semantic version, highest first."""
        return self.order_by("-major", "-minor", "-patch")


class ModelVersion(models.Model):
    """One immutable result of training and everything needed to make it again."""

    class VersionStatus(TextChoices):
        TRAINING = "training", "Training"
        """Its job runs; there are no files yet."""
        READY = "ready", "Ready"
        """Files verified and in `storage/active`."""
        ARCHIVED = "archived", "Archived"
        """Files verified and in `storage/archive`; not served."""
        FAILED = "failed", "Failed"
        """Its job failed; there are no files."""

    Status: TypeAlias = VersionStatus  # noqa: UP040  # an attribute, too

    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="versions")
    version = models.CharField(max_length=20, validators=[validate_semver])
    major = models.PositiveIntegerField(editable=False)
    minor = models.PositiveIntegerField(editable=False)
    patch = models.PositiveIntegerField(editable=False)
    status = models.CharField(max_length=10, choices=Status, default=Status.TRAINING)
    metrics = models.JSONField(default=dict, editable=False)
    artifact_path = models.CharField(max_length=500, blank=True, editable=False)
    manifest_sha256 = models.CharField(max_length=64, blank=True, editable=False)
    size_bytes = models.BigIntegerField(default=0, editable=False)
    mlflow_run_id = models.CharField(max_length=64, blank=True, editable=False)
    mlflow_version = models.CharField(max_length=20, blank=True, editable=False)
    moving_to = models.CharField(
        max_length=500,
        blank=True,
        editable=False,
        help_text="Where the files are being moved to; empty when they are not",
    )
    archived_with_model = models.BooleanField(
        default=False,
        editable=False,
        help_text="Archived with its model, and restored with it",
    )
    notes = models.TextField(blank=True)
    evaluation = models.JSONField(
        default=dict, editable=False, help_text="Scores of its answers, with samples"
    )
    reproduction = models.JSONField(
        default=dict, editable=False, help_text="Whether training again gave the same weights"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    # Lineage. A blank text or null means unknown, and is shown as such.
    git_commit = models.CharField(max_length=40, blank=True, editable=False)
    git_dirty = models.BooleanField(null=True, editable=False)
    git_diff = models.TextField(
        blank=True, editable=False, help_text="Uncommitted changes of the checkout"
    )
    dataset = models.ForeignKey(
        Dataset, on_delete=models.PROTECT, null=True, related_name="versions", editable=False
    )
    labels = models.JSONField(
        default=list, editable=False, help_text="Those of its data set, the most frequent first"
    )
    dataset_checksum = models.CharField(max_length=64, blank=True, editable=False)
    base_model = models.ForeignKey(
        BaseModel, on_delete=models.PROTECT, related_name="versions", editable=False
    )
    base_checksum = models.CharField(max_length=64, blank=True, editable=False)
    parent = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, related_name="children", editable=False
    )
    params = models.JSONField(default=dict, editable=False)
    seed = models.BigIntegerField(null=True, editable=False)
    packages = models.JSONField(default=dict, editable=False)
    hardware = models.JSONField(default=dict, editable=False)

    objects = ModelVersionQuerySet.as_manager()

    class Meta:
        ordering = ("-major", "-minor", "-patch")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "version"], name="version_unique"),
            models.CheckConstraint(
                condition=Q(status__in=["training", "ready", "archived", "failed"]),
                name="version_status_valid",
            ),
            # Equal to its own three numbers, a version cannot be anything but MAJOR.MINOR.PATCH.
            models.CheckConstraint(
                condition=Q(
                    version=Concat(
                        Cast("major", CharField()),
                        Value("."),
                        Cast("minor", CharField()),
                        Value("."),
                        Cast("patch", CharField()),
                    )
                ),
                name="version_is_semver",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=["ready", "archived"])
                | (Q(manifest_sha256__regex=SHA256_PATTERN) & ~Q(artifact_path="")),
                name="version_ready_has_files",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                F("model"),
                F("status"),
                F("major").desc(),
                F("minor").desc(),
                F("patch").desc(),
                name="version_newest",
            ),
            models.Index(
                F("model"),
                F("major").desc(),
                F("minor").desc(),
                F("patch").desc(),
                F("id"),
                name="version_order",
            ),
            models.Index(fields=["model", "-created_at"], name="version_made"),
            models.Index(fields=["model", "status", "size_bytes"], name="version_disk"),
            models.Index(fields=["-created_at", "-id"], name="version_latest"),
            models.Index(fields=["git_commit"], name="version_commit"),
            models.Index(fields=["mlflow_run_id"], name="version_run"),
        ]

    def __str__(self) -> str:
        return f"{self.model.name}@{self.version}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        # Bad text is left for the database to refuse, as it would be from any other client.
        try:
            self.major, self.minor, self.patch = parse_semver(self.version)
        except Exception:
            self.major, self.minor, self.patch = 0, 0, 0
        super().save(*args, **kwargs)

    def get_absolute_url(self) -> str:
        return reverse("version", args=[self.model_id, self.version])

    @property
    def answered(self) -> str:
        """How many requests of the log it answered, as far as a page counts: `12 requests`, `10,000+
        requests`."""
        count = self.requests.order_by().values("pk")[: _COUNTED + 1].count()
        shown = f"{_COUNTED:,}+" if count > _COUNTED else f"{count:,}"
        return f"{shown} request{'' if count == 1 else 's'}"

    @property
    def answers_with(self) -> list[str]:
        """The labels that it is held to, if its model classifies."""
        labels: list[str] = self.labels if self.model.task.labels else []
        return labels
