"""Samples of the machine, for the dashboard; and which storage the database belongs to."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone


class SystemSample(models.Model):
    """What the machine and the hub's processes used at one moment. Null means unknown."""

    created_at = models.DateTimeField(default=timezone.now)
    cpu_percent = models.FloatField(help_text="Of all cores")
    gpu_percent = models.FloatField(null=True)
    memory_used_bytes = models.BigIntegerField()
    memory_total_bytes = models.BigIntegerField()
    swap_used_bytes = models.BigIntegerField(default=0)
    disk_free_bytes = models.BigIntegerField()
    engine_memory_bytes = models.BigIntegerField(null=True)
    training_memory_bytes = models.BigIntegerField(null=True)

    class Meta:
        ordering = ("-created_at",)
        indexes: ClassVar = [models.Index(fields=["-created_at"])]

    def __str__(self) -> str:
        return self.created_at.isoformat()


class StorageId(models.Model):
    """The one storage folder whose files the rows of this database name; at most one row."""

    only = models.BooleanField(default=True, unique=True, editable=False)
    storage_id = models.UUIDField(editable=False)
    path = models.CharField(max_length=4096, editable=False)
    host = models.CharField(max_length=255, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(only=True), name="storageid_only_one")
        ]

    def __str__(self) -> str:
        return str(self.storage_id)
