"""Base models, models, versions, aliases and data sets: what exists and where it came from."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models import CharField, F, Q, TextChoices, Value
from django.db.models.functions import Cast, Concat, Lower
from django.urls import reverse
from django.utils import timezone

from registry.names import (
    ALIAS_PATTERN,
    NAME_PATTERN,
    parse_semver,
    validate_alias,
    validate_name,
    validate_semver,
)

SHA256_PATTERN = r"^[0-9a-f]{64}\Z"


def _named(table: str) -> list[models.BaseConstraint]:
    """A valid name, unique also on a file system that ignores case."""
    return [
        models.UniqueConstraint(Lower("name"), name=f"{table}_name_unique"),
        models.CheckConstraint(condition=Q(name__regex=NAME_PATTERN), name=f"{table}_name_valid"),
    ]


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
    derived_from = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, related_name="derived", editable=False
    )
    fused_version = models.ForeignKey(
        "ModelVersion", on_delete=models.PROTECT, null=True, related_name="fused", editable=False
    )
    certificate = models.JSONField(
        default=dict, editable=False, help_text="How faithful it is to what it was made from"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)
        constraints: ClassVar = [
            *_named("basemodel"),
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
    def is_quantized(self) -> bool:
        """Whether its weights have lost bits already."""
        return "-bit" in self.quantization


class BaseImport(models.Model):
    """One base model in the making, or made: a download, or a conversion of what is here. It is
    what a person watches while gigabytes move."""

    class Status(TextChoices):
        RUNNING = "running", "Running"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"

    name = models.CharField(max_length=100, validators=[validate_name])
    source = models.CharField(max_length=10, choices=BaseModel.Source)
    origin = models.CharField(max_length=500)
    revision = models.CharField(max_length=100, blank=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.RUNNING)
    stage = models.CharField(max_length=100, blank=True)
    done_bytes = models.BigIntegerField(default=0)
    total_bytes = models.BigIntegerField(null=True)
    error_message = models.TextField(blank=True)
    base_model = models.ForeignKey(
        BaseModel, on_delete=models.SET_NULL, null=True, related_name="imports"
    )
    derived_from = models.ForeignKey(
        BaseModel, on_delete=models.SET_NULL, null=True, related_name="conversions"
    )
    fused_version = models.ForeignKey(
        "ModelVersion", on_delete=models.SET_NULL, null=True, related_name="conversions"
    )
    options = models.JSONField(default=dict, help_text="Bits, group size and data set to judge on")
    created_at = models.DateTimeField(auto_now_add=True)
    heartbeat_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-created_at",)
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["running", "completed", "failed"]),
                name="baseimport_status_valid",
            ),
            models.UniqueConstraint(
                Lower("name"), condition=Q(status="running"), name="baseimport_one_running"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} from {self.origin}"


class Dataset(models.Model):
    """One revision of a data set, snapshotted by content in `storage/datasets/CHECKSUM`."""

    class Format(TextChoices):
        CHAT = "chat", "Chat messages"
        COMPLETIONS = "completions", "Prompt and completion"
        TEXT = "text", "Plain text"
        TOOLS = "tools", "Chat with tool calls"
        PREFERENCE = "preference", "Chosen and rejected answers"

    name = models.CharField(max_length=100, validators=[validate_name])
    revision = models.PositiveIntegerField(default=1, editable=False)
    previous = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, related_name="next", editable=False
    )
    changes = models.JSONField(
        default=dict, editable=False, help_text="Examples added and removed since the previous one"
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
        ordering = ("-created_at",)
        constraints: ClassVar = [
            models.UniqueConstraint(Lower("name"), "revision", name="dataset_revision_unique"),
            models.CheckConstraint(
                condition=Q(name__regex=NAME_PATTERN), name="dataset_name_valid"
            ),
            models.CheckConstraint(
                condition=Q(format__in=["chat", "completions", "text", "tools", "preference"]),
                name="dataset_format_valid",
            ),
            models.CheckConstraint(
                condition=Q(checksum__regex=SHA256_PATTERN), name="dataset_checksum_valid"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["checksum"]),
            models.Index(fields=["-created_at"]),
        ]

    def __str__(self) -> str:
        return self.name if self.revision == 1 else f"{self.name} (revision {self.revision})"

    def get_absolute_url(self) -> str:
        return reverse("dataset", args=[self.pk])

    @property
    def examples(self) -> int:
        """Examples in all splits."""
        return sum(self.splits.values())


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


class DatasetTask(models.Model):
    """A large data set being registered or examined in a child process, or what became of that:
    what a person watches while a million lines are read."""

    class Kind(TextChoices):
        REGISTER = "register", "Registration"
        EXAMINE = "examine", "Examination"

    class Status(TextChoices):
        RUNNING = "running", "Running"
        COMPLETED = "completed", "Completed"
        FAILED = "failed", "Failed"

    kind = models.CharField(max_length=10, choices=Kind)
    name = models.CharField(max_length=100, validators=[validate_name])
    source = models.CharField(max_length=500, help_text="What was sent, or the hub id")
    options = models.JSONField(default=dict, help_text="What the work needs to know")
    status = models.CharField(max_length=10, choices=Status, default=Status.RUNNING)
    stage = models.CharField(max_length=100, blank=True)
    examples = models.BigIntegerField(default=0, help_text="Read so far")
    share = models.FloatField(default=0.0, help_text="Of the stage that is done, 0 to 1")
    error_message = models.TextField(blank=True)
    problems = models.JSONField(default=list, help_text="Mistakes in examples, the first of them")
    dataset = models.ForeignKey(
        Dataset, on_delete=models.CASCADE, null=True, related_name="tasks", editable=False
    )
    report = models.ForeignKey(
        DatasetReport, on_delete=models.SET_NULL, null=True, related_name="+", editable=False
    )
    created_at = models.DateTimeField(auto_now_add=True)
    heartbeat_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-created_at", "-pk")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=["running", "completed", "failed"]),
                name="datasettask_status_valid",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["register", "examine"]), name="datasettask_kind_valid"
            ),
            models.UniqueConstraint(
                "kind",
                Lower("name"),
                condition=Q(status="running"),
                name="datasettask_one_running",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.name}"

    def get_absolute_url(self) -> str:
        return reverse("dataset_task", args=[self.pk])

    @property
    def is_running(self) -> bool:
        return self.status == DatasetTask.Status.RUNNING


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
    card_notes = models.TextField(blank=True, help_text="A person's own words, in Markdown")
    archived_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at",)
        constraints: ClassVar = [
            *_named("model"),
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
        indexes: ClassVar = [models.Index(fields=["-created_at"])]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("model", args=[self.pk])


class ModelVersionQuerySet(models.QuerySet["ModelVersion"]):
    def ready(self) -> ModelVersionQuerySet:
        return self.filter(status=ModelVersion.Status.READY)

    def newest_first(self) -> ModelVersionQuerySet:
        """By semantic version, highest first."""
        return self.order_by("-major", "-minor", "-patch")


class ModelVersion(models.Model):
    """One immutable result of training and everything needed to make it again."""

    class Status(TextChoices):
        TRAINING = "training", "Training"
        """Its job runs; there are no files yet."""
        READY = "ready", "Ready"
        """Files verified and in `storage/active`."""
        ARCHIVED = "archived", "Archived"
        """Files verified and in `storage/archive`; not served."""
        FAILED = "failed", "Failed"
        """Its job failed; there are no files."""

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
        help_text="Where the files are being moved to; empty at rest",
    )
    archived_with_model = models.BooleanField(
        default=False,
        editable=False,
        help_text="It went to the archive because its model did, and comes back with it",
    )
    notes = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    # Lineage. A blank text or null means unknown, and is shown as such.
    git_commit = models.CharField(max_length=40, blank=True, editable=False)
    git_dirty = models.BooleanField(null=True, editable=False)
    git_diff = models.TextField(
        blank=True, editable=False, help_text="What a dirty checkout differed by"
    )
    dataset = models.ForeignKey(
        Dataset, on_delete=models.PROTECT, null=True, related_name="versions", editable=False
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
                name="version_order",
            ),
            models.Index(fields=["-created_at"]),
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
    gate = models.JSONField(default=list, help_text="What each promotion rule said")
    forced = models.BooleanField(default=False, help_text="Moved although a rule refused")
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


class MLflowOutbox(models.Model):
    """What MLflow has yet to be told. Kept until it was, so a dead MLflow never stalls training."""

    operation = models.CharField(max_length=40)
    run_key = models.CharField(
        max_length=100, blank=True, help_text="Entries of one run are delivered in order"
    )
    run_id = models.CharField(max_length=64, blank=True, help_text="MLflow's, once it is known")
    payload = models.JSONField(default=dict)
    attempts = models.PositiveIntegerField(default=0)
    last_error = models.TextField(blank=True)
    not_before = models.DateTimeField(default=timezone.now)
    created_at = models.DateTimeField(auto_now_add=True)
    done_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("pk",)
        verbose_name = "MLflow outbox entry"
        verbose_name_plural = "MLflow outbox"
        indexes: ClassVar = [
            models.Index(fields=["id"], condition=Q(done_at__isnull=True), name="outbox_waiting"),
            models.Index(fields=["run_key", "id"], name="outbox_run"),
        ]

    def __str__(self) -> str:
        return f"{self.operation} #{self.pk}"
