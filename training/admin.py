"""Jobs in the admin: a record to search and act on, not a form."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from registry.errors import HubError
from registry.paging import RowPages
from training import queue
from training.models import TrainingJob, TrainingMetric

_METRICS_SHOWN = 50


class NewestMetrics(admin.TabularInline[TrainingMetric, TrainingJob]):
    """The last measurements of a job; all of them are on its page and in the API."""

    model = TrainingMetric
    verbose_name_plural = f"newest {_METRICS_SHOWN} metrics"
    fields = ("iteration", "train_loss", "val_loss", "learning_rate", "tokens_per_second")
    ordering = ("-iteration",)
    can_delete = False
    extra = 0
    max_num = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[TrainingMetric]:
        metrics = super().get_queryset(request)
        match = request.resolver_match
        job_id = match.kwargs.get("object_id") if match else None
        newest = metrics.filter(job_id=job_id).order_by("-iteration")[:_METRICS_SHOWN]
        return metrics.filter(pk__in=list(newest.values_list("pk", flat=True)))

    def has_change_permission(self, request: HttpRequest, obj: object | None = None) -> bool:
        return False

    def has_add_permission(self, request: HttpRequest, obj: object | None = None) -> bool:
        return False


@admin.register(TrainingJob)
class TrainingJobAdmin(admin.ModelAdmin[TrainingJob]):
    list_display = (
        "id",
        "model",
        "dataset",
        "status",
        "stage",
        "iteration",
        "attempt",
        "result_version",
        "created_at",
        "completed_at",
    )
    list_filter = ("status", "created_at")
    paginator = RowPages
    list_per_page = 25
    show_full_result_count = False
    list_select_related = ("model", "dataset", "result_version__model")
    search_fields = ("=id", "model__name", "dataset__name", "correlation_id", "error_message")
    inlines = (NewestMetrics,)
    actions = ("cancel", "retry")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: TrainingJob | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: TrainingJob | None = None) -> bool:
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Acting on a job needs the right to change it; editing its row is nobody's."""
        return bool(request.user.has_perm("training.change_trainingjob"))

    @admin.action(description="Cancel the selected jobs", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[TrainingJob]) -> None:
        _each(request, queryset, queue.cancel, "told to stop")

    @admin.action(description="Try the selected jobs again", permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: QuerySet[TrainingJob]) -> None:
        _each(request, queryset, queue.retry, "queued again")


def _each(
    request: HttpRequest,
    jobs: QuerySet[TrainingJob],
    act: Callable[[TrainingJob], TrainingJob],
    done: str,
) -> None:
    count = 0
    for job in jobs:
        try:
            act(job)
            count += 1
        except HubError as error:
            messages.warning(request, str(error))
    if count:
        messages.success(request, f"{count} {'job' if count == 1 else 'jobs'} {done}.")
