"""Jobs in the admin: searched and acted on, not edited."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest

import registry.web.generics  # noqa: F401  # its classes can be subscripted
from registry.admin.kept import Kept
from registry.admin.search import Searched, either, of_model_or_dataset
from registry.errors import HubError
from registry.web.numbers import whole
from registry.web.paging import RowPages
from training import queue
from training.models import Setup, Sweep, TrainingJob, TrainingMetric

_METRICS_SHOWN = 50


class NewestMetrics(admin.TabularInline[TrainingMetric, TrainingJob]):
    """A job's newest measurements; all of them are on its page and in the API."""

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
class TrainingJobAdmin(Searched[TrainingJob], admin.ModelAdmin[TrainingJob]):
    list_display = (
        "id",
        "model",
        "dataset",
        "state",
        "priority",
        "iteration",
        "result_version",
        "created_at",
        "completed_at",
    )
    list_filter = ("status", "paused", "out_of_memory", "created_at")
    paginator = RowPages
    list_per_page = 25
    show_full_result_count = False
    list_select_related = ("model", "dataset", "result_version__model")
    shown = (
        "status",
        "paused",
        "priority",
        "iteration",
        "created_at",
        "completed_at",
        "model__name",
        "dataset__name",
        "dataset__revision",
        "result_version__version",
        "result_version__model__name",
    )
    search_fields = ("id", "model__name", "dataset__name", "correlation_id", "error_message")
    search_help_text = (
        "A job number, or part of a model's or data set's name. If none matches: a correlation ID, "
        "or part of a failed job's error."
    )
    inlines = (NewestMetrics,)
    actions = ("cancel", "pause", "resume", "move_first", "move_last", "retry", "retry_halved")

    def found_by(self, word: str) -> Q:
        number = Q(pk=pk) if (pk := whole(word)) is not None else None
        if number and TrainingJob.objects.filter(number).exists():
            return number
        failed = Q(status=TrainingJob.Status.FAILED, error_message__icontains=word)
        return of_model_or_dataset(word) or either(TrainingJob, Q(correlation_id=word), failed)

    @admin.display(description="status", ordering="status")
    def state(self, job: TrainingJob) -> str:
        return f"{job.get_status_display()}, paused" if job.paused else job.get_status_display()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: TrainingJob | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: TrainingJob | None = None) -> bool:
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Actions need the permission to change jobs; nobody may edit a job's row."""
        return bool(request.user.has_perm("training.change_trainingjob"))

    @admin.action(description="Cancel the selected jobs", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[TrainingJob]) -> None:
        _for_each(request, queryset, queue.cancel, "cancelled, or stopping at the next step")

    @admin.action(description="Pause the selected jobs", permissions=["operate"])
    def pause(self, request: HttpRequest, queryset: QuerySet[TrainingJob]) -> None:
        _for_each(request, queryset, queue.pause, "paused, or pausing at the next step")

    @admin.action(description="Resume the selected jobs", permissions=["operate"])
    def resume(self, request: HttpRequest, queryset: QuerySet[TrainingJob]) -> None:
        _for_each(request, queryset, queue.resume, "resumed")

    @admin.action(description="Run the selected jobs first", permissions=["operate"])
    def move_first(self, request: HttpRequest, queryset: QuerySet[TrainingJob]) -> None:
        # Last to first, so that they keep their order.
        jobs = queryset.order_by("priority", "-position", "-created_at", "-pk")
        _for_each(request, jobs, lambda job: queue.move(job, "first"), "moved to the front")

    @admin.action(description="Run the selected jobs last", permissions=["operate"])
    def move_last(self, request: HttpRequest, queryset: QuerySet[TrainingJob]) -> None:
        jobs = queryset.order_by("-priority", "position", "created_at", "pk")
        _for_each(request, jobs, lambda job: queue.move(job, "last"), "moved to the end")

    @admin.action(description="Retry the selected jobs", permissions=["operate"])
    def retry(self, request: HttpRequest, queryset: QuerySet[TrainingJob]) -> None:
        _for_each(request, queryset, queue.retry, "queued again")

    @admin.action(description="Retry with half the batch size", permissions=["operate"])
    def retry_halved(self, request: HttpRequest, queryset: QuerySet[TrainingJob]) -> None:
        _for_each(request, queryset, queue.retry_halved, "queued again with half the batch size")


@admin.register(Sweep)
class SweepAdmin(admin.ModelAdmin[Sweep]):
    list_display = ("id", "name", "model", "dataset", "created_at")
    list_filter = ("model", "created_at")
    list_select_related = ("model", "dataset")
    search_fields = ("name", "model__name", "dataset__name")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Sweep | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Sweep | None = None) -> bool:
        return False


@admin.register(Setup)
class SetupAdmin(Kept[Setup]):
    """From examples to a job in one go. What failed is retried on its page."""

    list_display = ("name", "source", "status", "stage", "job", "error_message", "created_at")
    list_filter = ("status", "created_at")
    list_select_related = ("job__model", "job__dataset")
    search_fields = ("name", "source", "error_message")
    date_hierarchy = "created_at"


def _for_each(
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
