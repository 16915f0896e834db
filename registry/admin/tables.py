"""The registry in the admin. Rows are made by training and by the API; what lineage rests on can
be read here, and only descriptions change."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from django.contrib import admin, messages
from django.db.models import Model as Row
from django.db.models import Q, QuerySet
from django.http import HttpRequest

import registry.web.generics  # noqa: F401  # its classes can be subscripted
from registry.admin.kept import Kept
from registry.admin.search import Searched, of_model_or_dataset, starting
from registry.errors import HubError
from registry.maintenance import archive, removal, verification
from registry.mlflow import outbox
from registry.models import (
    Alias,
    AliasMove,
    AuditEntry,
    BaseModel,
    Dataset,
    DatasetReport,
    MLflowOutbox,
    Model,
    ModelVersion,
    PromotionRule,
)
from registry.promotion import rules
from registry.storage.sizes import human


def _each[T: Row](
    request: HttpRequest, rows: Iterable[T], act: Callable[[T], object], done: str
) -> None:
    """Do it to one row after the other, and report each that was refused."""
    count = 0
    for row in rows:
        try:
            act(row)
            count += 1
        except HubError as error:
            messages.error(request, str(error))
    if count:
        messages.success(request, f"{count} {done}.")


@admin.register(BaseModel)
class BaseModelAdmin(Kept[BaseModel]):
    list_display = (
        "name",
        "source",
        "architecture",
        "quantization",
        "parameters",
        "context_length",
        "size",
        "created_at",
    )
    list_filter = ("source", "architecture", "quantization")
    search_fields = ("name", "origin", "manifest_sha256")

    @admin.display(ordering="size_bytes")
    def size(self, row: BaseModel) -> str:
        return human(row.size_bytes)


@admin.register(Dataset)
class DatasetAdmin(Kept[Dataset]):
    editable = ("description",)
    list_display = ("name", "format", "counts", "size", "checksum_start", "source", "created_at")
    list_filter = ("format", "created_at")
    search_fields = ("name", "description", "checksum", "source")

    @admin.display(description="examples")
    def counts(self, row: Dataset) -> str:
        return ", ".join(f"{split} {count}" for split, count in row.splits.items())

    @admin.display(ordering="size_bytes")
    def size(self, row: Dataset) -> str:
        return human(row.size_bytes)

    @admin.display(description="checksum", ordering="checksum")
    def checksum_start(self, row: Dataset) -> str:
        return row.checksum[:12]


@admin.register(DatasetReport)
class DatasetReportAdmin(Kept[DatasetReport]):
    """What examinations found; the doctor's page of a data set shows it in full."""

    list_display = ("dataset", "base_model", "max_seq_length", "created_at")
    list_filter = ("base_model", "created_at")
    list_select_related = ("dataset", "base_model")
    search_fields = ("dataset__name",)
    date_hierarchy = "created_at"


class _Aliases(admin.TabularInline[Alias, Model]):
    model = Alias
    fields = readonly_fields = ("name", "version", "updated_at")
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Row | None = None) -> bool:
        return False


@admin.register(Model)
class ModelAdmin(Kept[Model]):
    editable = ("description", "tags", "task_type", "card_notes")
    list_display = ("name", "task_type", "base_model", "tags", "mlflow_experiment_id", "created_at")
    list_filter = ("task_type", "base_model", "created_at")
    list_select_related = ("base_model",)
    search_fields = ("name", "description", "tags")
    inlines = (_Aliases,)
    actions = ("archive", "restore")

    @admin.action(description="Archive the selected models", permissions=["change"])
    def archive(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        """Deleting for good asks for the name, so that is done on the model's page."""
        _each(request, queryset, removal.archive_model, "archived")

    @admin.action(description="Restore the selected models", permissions=["change"])
    def restore(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        _each(request, queryset, removal.unarchive_model, "restored")


@admin.register(ModelVersion)
class ModelVersionAdmin(Searched[ModelVersion], Kept[ModelVersion]):
    editable = ("notes",)
    list_display = (
        "__str__",
        "status",
        "dataset",
        "base_model",
        "seed",
        "commit",
        "size",
        "created_at",
    )
    list_filter = ("status", "git_dirty", "base_model", "created_at")
    list_select_related = ("model", "dataset", "base_model")
    shown = (
        "version",
        "status",
        "seed",
        "git_commit",
        "git_dirty",
        "size_bytes",
        "created_at",
        "model__name",
        "dataset__name",
        "dataset__revision",
        "base_model__name",
    )
    ordering = ("-created_at", "-pk")
    search_fields = ("model__name", "version", "git_commit", "dataset__name", "mlflow_run_id")
    search_help_text = (
        "Part of the name of a model, or of a data set where no model has it; a number such as "
        "1.2.0, NAME@1.2.0; or the first characters, at least 7, of a commit or MLflow run."
    )
    actions = ("verify", "archive", "restore")

    def found_by(self, word: str) -> Q | None:
        name, at, number = word.partition("@")
        if at:
            exact = Model.objects.filter(name__iexact=name).values_list("pk", flat=True)
            return Q(model__in=list(exact), version=number)
        if re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", word):
            return Q(version=word)
        if re.fullmatch(r"[0-9a-f]{7,64}", word):
            recorded = starting("git_commit", word) | starting("mlflow_run_id", word)
            if ModelVersion.objects.filter(recorded).exists():
                return recorded
        return of_model_or_dataset(word)

    @admin.action(description="Verify the files of the selected versions", permissions=["view"])
    def verify(self, request: HttpRequest, queryset: QuerySet[ModelVersion]) -> None:
        """Reads every byte, so a large version takes a while."""
        _each(request, queryset, verification.require_sound, "verified; every byte is as recorded")

    @admin.action(description="Archive the selected versions", permissions=["change"])
    def archive(self, request: HttpRequest, queryset: QuerySet[ModelVersion]) -> None:
        _each(request, queryset, archive.archive_version, "archived")

    @admin.action(description="Restore the selected versions", permissions=["change"])
    def restore(self, request: HttpRequest, queryset: QuerySet[ModelVersion]) -> None:
        _each(request, queryset, archive.restore_version, "restored")

    @admin.display(ordering="git_commit")
    def commit(self, row: ModelVersion) -> str:
        return row.git_commit[:10] + (" + changes" if row.git_dirty else "")

    @admin.display(ordering="size_bytes")
    def size(self, row: ModelVersion) -> str:
        return human(row.size_bytes)


@admin.register(Alias)
class AliasAdmin(Kept[Alias]):
    """Aliases are moved on the model's page or over the API, which keep the history."""

    list_display = ("__str__", "version", "updated_at")
    list_filter = ("name",)
    list_select_related = ("model", "version__model")
    search_fields = ("name", "model__name")


@admin.register(AliasMove)
class AliasMoveAdmin(Kept[AliasMove]):
    list_display = (
        "model",
        "name",
        "from_version",
        "to_version",
        "by",
        "reason",
        "forced",
        "moved_at",
    )
    list_filter = ("name", "forced", "moved_at")
    list_select_related = ("model", "from_version__model", "to_version__model")
    search_fields = ("name", "model__name", "by", "reason")


@admin.register(AuditEntry)
class AuditEntryAdmin(Kept[AuditEntry]):
    list_display = ("created_at", "who", "action", "subject", "detail")
    list_filter = ("action", "actor_kind", "created_at")
    search_fields = ("actor", "subject")


@admin.register(PromotionRule)
class PromotionRuleAdmin(admin.ModelAdmin[PromotionRule]):
    list_display = ("__str__", "model", "alias", "metric", "comparison", "value", "created_at")
    list_filter = ("alias", "metric")
    list_select_related = ("model",)
    search_fields = ("model__name", "metric")

    def save_model(
        self, request: HttpRequest, obj: PromotionRule, form: object, change: bool
    ) -> None:
        rules.save_rule(obj)

    def delete_model(self, request: HttpRequest, obj: PromotionRule) -> None:
        rules.delete_rule(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[PromotionRule]) -> None:
        for rule in queryset.select_related("model"):
            rules.delete_rule(rule)


@admin.register(MLflowOutbox)
class MLflowOutboxAdmin(Kept[MLflowOutbox]):
    list_display = (
        "pk",
        "operation",
        "run_key",
        "run_id",
        "attempts",
        "last_error",
        "not_before",
        "done_at",
    )
    list_filter = ("operation", ("done_at", admin.EmptyFieldListFilter), "created_at")
    search_fields = ("run_key", "run_id", "last_error")
    actions = ("try_now",)

    def has_try_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("registry.change_mlflowoutbox")

    @admin.action(description="Try the selected entries again now", permissions=["try"])
    def try_now(self, request: HttpRequest, queryset: QuerySet[MLflowOutbox]) -> None:
        """Ends the back-off, and retries what was given up."""
        count = outbox.try_again(queryset)
        messages.success(request, f"{count} will be tried at the next delivery.")
