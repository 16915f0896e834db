"""Data sets, and what an examination found of one."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q, TextChoices
from django.db.models.functions import Lower
from django.urls import reverse

from registry.models.bases import BaseModel
from registry.models.constraints import SHA256_PATTERN
from registry.names import (
    NAME_PATTERN,
    validate_name,
)


class Dataset(models.Model):
    """One revision of a data set, snapshotted by content in `storage/datasets/CHECKSUM`."""

    class Format(TextChoices):
        CHAT = "chat", "Chat messages"
        COMPLETIONS = "completions", "Prompt and completion"
        TEXT = "text", "Plain text"
        TOOLS = "tools", "Chat with tool calls"
        PREFERENCE = "preference", "Chosen and rejected answers"
        LABELLED = "labelled", "Answers labelled good or bad"

    name = models.CharField(max_length=100, validators=[validate_name])
    revision = models.PositiveIntegerField(default=1, editable=False)
    previous = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, related_name="next", editable=False
    )
    changes = models.JSONField(
        default=dict, editable=False, help_text="Examples added and removed since the previous one"
    )
    fixes = models.JSONField(
        default=dict,
        editable=False,
        help_text="Message and numbers of the rows fixed since the previous one",
    )
    description = models.TextField(blank=True)
    source = models.CharField(max_length=500, blank=True, help_text="Where it was read from")
    path = models.CharField(max_length=500, editable=False, help_text="Snapshot, below storage")
    checksum = models.CharField(max_length=64, editable=False, help_text="sha256 of the manifest")
    format = models.CharField(max_length=20, choices=Format)
    schema = models.JSONField(default=dict, editable=False)
    splits = models.JSONField(default=dict, editable=False, help_text='{"train": 400, …}')
    token_stats = models.JSONField(default=dict, editable=False)
    size_bytes = models.BigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at", "-pk")
        constraints: ClassVar = [
            models.UniqueConstraint(Lower("name"), "revision", name="dataset_revision_unique"),
            models.CheckConstraint(
                condition=Q(name__regex=NAME_PATTERN), name="dataset_name_valid"
            ),
            models.CheckConstraint(
                condition=Q(
                    format__in=["chat", "completions", "text", "tools", "preference", "labelled"]
                ),
                name="dataset_format_valid",
            ),
            models.CheckConstraint(
                condition=Q(checksum__regex=SHA256_PATTERN), name="dataset_checksum_valid"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["checksum"]),
            models.Index(fields=["-created_at", "-id"], name="dataset_newest"),
        ]

    def __str__(self) -> str:
        return self.name if self.revision == 1 else f"{self.name} (revision {self.revision})"

    def get_absolute_url(self) -> str:
        return reverse("dataset", args=[self.pk])

    @property
    def examples(self) -> int:
        """Examples in all splits."""
        return sum(self.splits.values())

    @property
    def read_as(self) -> list[str]:
        """The dialects of its files, such as "Alpaca (instruction, input, output)"; none for a
        data set that was registered before they were recorded."""
        found: list[str] = self.schema.get("read_as", [])
        return found

    @property
    def unused(self) -> list[str]:
        """Columns and fields of its files that no training reads."""
        found: list[str] = self.schema.get("unused", [])
        return found

    @property
    def files(self) -> dict[str, list[str]]:
        """By split, the names of its files; "" for files that were split."""
        found: dict[str, list[str]] = self.schema.get("files", {})
        return found

    @property
    def labels(self) -> dict[str, dict[str, int]]:
        """Of a classification set each label, the most frequent first, with its examples by split;
        {} for other sets, and for those that were registered before labels were counted."""
        found: dict[str, dict[str, int]] = dict(self.schema.get("classes", []))
        return found

    @property
    def good_answers(self) -> int:
        """How many answers are labelled good, in all splits; 0 where they are not labelled."""
        labels: dict[str, int] = self.schema.get("labels", {})
        return labels.get("true", 0)

    @property
    def one_label(self) -> str:
        """The label of all answers, "true" or "false", where they are labelled and have the same."""
        labels: dict[str, int] = self.schema.get("labels", {})
        used = [name for name, count in labels.items() if count]
        return used[0] if len(used) == 1 else ""

    @property
    def notes(self) -> list[str]:
        """What a person should know about how its files were read, a sentence each."""
        notes = []
        for split, names in self.files.items():
            if split and any(name.partition(".")[0] != split for name in names):
                notes.append(f"The {split} split was read from {', '.join(names)}.")
        if self.unused:
            notes.append(f"These columns are not used: {', '.join(self.unused)}.")
        if one_sided := self.one_label:
            notes.append(
                f"All answers have the label {one_sided}, and KTO learns from good and bad ones; add "
                f"some with the label {'false' if one_sided == 'true' else 'true'}."
            )
        if left_out := self.schema.get("files_left_out"):
            notes.append(f"These files are not used: {', '.join(left_out)}.")
        return notes


class DatasetReport(models.Model):
    """What the examination of a data set found, for one base model's tokens."""

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="reports")
    base_model = models.ForeignKey(BaseModel, on_delete=models.CASCADE, related_name="+")
    max_seq_length = models.PositiveIntegerField()
    report = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at",)
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["dataset", "base_model", "max_seq_length"], name="datasetreport_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.dataset} for {self.base_model}"
