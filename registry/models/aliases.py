"""Aliases, the history of their moves, and the rules that guard them."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q, TextChoices

from registry.models.models import Model
from registry.models.versions import ModelVersion
from registry.names import (
    ALIAS_PATTERN,
    validate_alias,
)


class Alias(models.Model):
    """A movable name for one version of a model, such as `production`."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="aliases")
    name = models.CharField(max_length=50, validators=[validate_alias])
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="aliases")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)
        verbose_name_plural = "aliases"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "name"], name="alias_unique"),
            models.CheckConstraint(condition=Q(name__regex=ALIAS_PATTERN), name="alias_name_valid"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["name", "-updated_at", "-id"], name="alias_latest")
        ]

    def __str__(self) -> str:
        return f"{self.model.name}@{self.name}"


class AliasMove(models.Model):
    """One move of an alias: the history that is never edited."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="alias_moves")
    name = models.CharField(max_length=50)
    from_version = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, null=True, related_name="+"
    )
    to_version = models.ForeignKey(
        ModelVersion,
        on_delete=models.PROTECT,
        null=True,
        related_name="+",
        help_text="Empty: the alias was deleted",
    )
    by = models.CharField(max_length=150, blank=True)
    reason = models.TextField(blank=True)
    gate = models.JSONField(default=list, help_text="The result of each promotion rule")
    forced = models.BooleanField(default=False, help_text="Moved against a promotion rule")
    moved_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-moved_at", "-pk")
        indexes: ClassVar = [models.Index(fields=["model", "name", "-moved_at"])]

    def __str__(self) -> str:
        return f"{self.name}: {self.from_version_id} → {self.to_version_id}"


class PromotionRule(models.Model):
    """What a version must show before an alias may point at it."""

    class Comparison(TextChoices):
        AT_LEAST = ">=", "at least"
        AT_MOST = "<=", "at most"

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="promotion_rules")
    alias = models.CharField(max_length=50, validators=[validate_alias], default="production")
    metric = models.CharField(max_length=100)
    comparison = models.CharField(max_length=2, choices=Comparison)
    value = models.FloatField(
        null=True, blank=True, help_text="Empty: the value of the alias's current version"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("alias", "metric", "pk")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["model", "alias", "metric", "comparison", "value"],
                name="promotionrule_unique",
            ),
            models.UniqueConstraint(
                fields=["model", "alias", "metric", "comparison"],
                condition=Q(value__isnull=True),
                name="promotionrule_relative_unique",
            ),
            models.CheckConstraint(
                condition=Q(comparison__in=[">=", "<="]), name="promotionrule_comparison_valid"
            ),
            models.CheckConstraint(
                condition=Q(alias__regex=ALIAS_PATTERN), name="promotionrule_alias_valid"
            ),
        ]

    def __str__(self) -> str:
        bound = "the current version's" if self.value is None else f"{self.value:g}"
        return f"{self.metric} {self.get_comparison_display()} {bound}"
