"""Sweeps: a grid of settings over one configuration."""

from __future__ import annotations

from django.db import models
from django.urls import reverse

from registry.models import Dataset, Model


class Sweep(models.Model):
    """Several jobs with the same model, data set and configuration, except for a grid of settings:
    each job has one combination."""

    name = models.CharField(max_length=100)
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="sweeps")
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="sweeps")
    config = models.JSONField(help_text="backends.base.TrainingConfig, before the grid changes it")
    grid = models.JSONField(help_text='Values by dotted setting: {"lora.rank": [8, 16]}')
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at", "-pk")

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("sweep", args=[self.pk])
