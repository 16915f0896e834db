"""Base models, and the work that makes them."""

from __future__ import annotations

import datetime
from typing import ClassVar, cast

from django.db import models
from django.db.models import Q, TextChoices
from django.db.models.functions import Lower
from django.utils import timezone

from backends.base import POOLINGS, RERANKS, Pooling
from registry.errors import Invalid
from registry.models.constraints import SHA256_PATTERN, named
from registry.models.work import PAUSED, Work
from registry.names import validate_name

RESUMABLE = datetime.timedelta(days=7)
"""How long a download that broke off is kept for a retry to continue."""


_STALLED = datetime.timedelta(seconds=5)

FINISHING = "Computing checksums"
"""The last stage of an import, which cannot be paused: its base model is about to be there."""


class BaseModel(models.Model):
    """A model's untouched weights, kept as an MLX folder in `storage/base/NAME`."""

    class Source(TextChoices):
        HUB = "hub", "Model hub id"
        FOLDER = "folder", "Local folder"
        GGUF = "gguf", "GGUF file"
        STARTER = "starter", "Bundled starter"
        QUANTIZED = "quantized", "Quantized from another base"
        FUSED = "fused", "Fused from a version"

    name = models.CharField(max_length=100, validators=[validate_name])
    source = models.CharField(max_length=10, choices=Source)
    origin = models.CharField(
        max_length=500, blank=True, help_text="Hub id, path or package it was imported from"
    )
    revision = models.CharField(max_length=100, blank=True)
    path = models.CharField(max_length=500, editable=False, help_text="Below storage")
    manifest_sha256 = models.CharField(max_length=64, editable=False)
    size_bytes = models.BigIntegerField(editable=False)
    quantization = models.CharField(max_length=50, blank=True)
    architecture = models.CharField(max_length=50, blank=True)
    parameters = models.BigIntegerField(default=0)
    context_length = models.PositiveIntegerField(default=0)
    licence = models.CharField(
        max_length=100, blank=True, help_text="As its source names it, such as apache-2.0"
    )
    pooling = models.CharField(
        max_length=10,
        blank=True,
        help_text="How an embedding model makes vectors: mean, cls or last. Empty for a model that writes",
    )
    derived_from = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, related_name="derived", editable=False
    )
    fused_version = models.ForeignKey(
        "ModelVersion", on_delete=models.PROTECT, null=True, related_name="fused", editable=False
    )
    certificate = models.JSONField(
        default=dict, editable=False, help_text="How closely it matches the model it was made from"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)
        constraints: ClassVar = [
            *named("basemodel"),
            models.CheckConstraint(
                condition=Q(source__in=["hub", "folder", "gguf", "starter", "quantized", "fused"]),
                name="basemodel_source_valid",
            ),
            models.CheckConstraint(
                condition=Q(manifest_sha256__regex=SHA256_PATTERN), name="basemodel_sha256_valid"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def embeds_only(self) -> bool:
        """Whether it writes nothing: an embedding model, or a reranker."""
        return bool(self.pooling)

    @property
    def reranks(self) -> bool:
        """Whether it ranks texts by a query, and does nothing else."""
        return self.pooling == RERANKS

    @property
    def vectors(self) -> str:
        """What its embeddings are, in words."""
        return POOLINGS[cast(Pooling, self.pooling or "mean")]

    def refuse_embedding_model(self) -> None:
        """Raises Invalid unless it can write."""
        if self.reranks:
            raise Invalid(
                f"{self.name} is a reranker, for reranking only: it cannot be trained or chatted with; "
                "choose another base model."
            )
        if self.embeds_only:
            raise Invalid(
                f"{self.name} is an embedding model, for embeddings only: it cannot be trained or "
                "chatted with; choose another base model."
            )

    @property
    def is_quantized(self) -> bool:
        """Whether its weights have lost bits already."""
        return "-bit" in self.quantization


class BaseImport(Work):
    """A base model being downloaded, copied, quantized or fused, and what became of it."""

    label = "import"
    command = ("import_base", "--row")
    counts = ("done_bytes",)
    figures = ("bytes_per_second",)

    status = models.CharField(
        max_length=10,
        choices=[*Work.Status.choices, (PAUSED, "Paused")],
        default=Work.Status.RUNNING,
    )
    name = models.CharField(max_length=100, validators=[validate_name])
    source = models.CharField(max_length=10, choices=BaseModel.Source)
    origin = models.CharField(max_length=500)
    revision = models.CharField(max_length=100, blank=True)
    done_bytes = models.BigIntegerField(default=0)
    total_bytes = models.BigIntegerField(null=True)
    bytes_per_second = models.BigIntegerField(
        null=True, help_text="Of the last seconds, while it downloads"
    )
    base_model = models.ForeignKey(
        BaseModel, on_delete=models.SET_NULL, null=True, related_name="imports"
    )
    derived_from = models.ForeignKey(
        BaseModel, on_delete=models.SET_NULL, null=True, related_name="conversions"
    )
    fused_version = models.ForeignKey(
        "ModelVersion", on_delete=models.SET_NULL, null=True, related_name="conversions"
    )
    options = models.JSONField(
        default=dict, help_text="Bits, group size and data set to compare on"
    )

    class Meta:
        ordering = ("-created_at",)
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["running", "paused", "completed", "failed"]),
                name="baseimport_status_valid",
            ),
            models.UniqueConstraint(
                Lower("name"), condition=Q(status="running"), name="baseimport_one_running"
            ),
        ]

    def __str__(self) -> str:
        made = self.source in (BaseModel.Source.QUANTIZED, BaseModel.Source.FUSED)
        return f"{'Conversion' if made else 'Import'} of {self.name}"

    @property
    def is_download(self) -> bool:
        return self.source == BaseModel.Source.HUB

    @property
    def can_pause(self) -> bool:
        """Whether it runs and can continue later from what has arrived."""
        return self.is_running and self.is_download and self.stage != FINISHING

    @property
    def is_stalled(self) -> bool:
        """Whether bytes came, and none came lately."""
        known = self.is_running and self.bytes_per_second is not None
        return known and timezone.now() - self.heartbeat_at > _STALLED

    @property
    def speed(self) -> int | None:
        """Bytes a second that arrive now; None where none do, or too few seconds were measured."""
        return self.bytes_per_second if self.is_running and not self.is_stalled else None

    @property
    def seconds_left(self) -> int | None:
        """Until all bytes are here at that speed; None where it is not known."""
        if not self.speed or self.total_bytes is None:
            return None
        return round(max(0, self.total_bytes - self.done_bytes) / self.speed)

    @property
    def lost(self) -> str:
        if self.is_download:
            return "The process ended early. Retry to continue from what has arrived."
        return f"{super().lost} Is there enough memory?"
