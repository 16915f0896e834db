"""Pages of training jobs. What may happen to a job is decided in `training.queue`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.html import escape
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from registry import versions
from registry.errors import HubError
from registry.htmx import HtmxRequest, form_page, partial
from registry.models import Dataset, Model
from registry.paging import RowPages
from training import overview, queue
from training.forms import PRESETS, NewJobForm, initial_of, labelled, nest
from training.models import TrainingJob
from training.supervisor import log_path

PER_PAGE = 25
MODELS_OFFERED = 50  # newest first; any other name may be typed


@require_GET
def jobs(request: HtmxRequest) -> HttpResponse:
    query = {name: request.GET.get(name, "").strip() for name in ("status", "model")}
    page = RowPages(overview.find_jobs(**query), PER_PAGE).get_page(request.GET.get("page"))
    places = overview.queue_positions()
    rows = [(job, places.get(job.pk)) for job in page]
    context = {
        "page": page,
        "rows": rows,
        "query": query,
        "live": any(not job.is_over for job, _ in rows),
        "statuses": TrainingJob.Status.choices,
        "models": Model.objects.values_list("name", flat=True)[:MODELS_OFFERED],
    }
    return render(request, partial(request, "training/jobs.html", "rows"), context)


@require_http_methods(["GET", "POST"])
def job_new(request: HttpRequest) -> HttpResponse:
    form = (
        NewJobForm(request.POST)
        if request.method == "POST"
        else NewJobForm(initial=_initial(request))
    )
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            fields = form.cleaned_data
            try:
                job = queue.enqueue(
                    fields["model"], fields["dataset"], fields["config"], fields["priority"] or 0
                )
            except HubError as error:
                form.add_error(None, str(error))
                status = error.status
            else:
                return redirect(job)
    context = {
        "form": form,
        "presets": PRESETS,
        "preset_name": request.GET.get("preset", ""),
        "missing": _missing(),
    }
    return form_page(request, "training/job_new.html", context, status)


@require_GET
def job_number(request: HttpRequest) -> HttpResponse:
    """Which version the form as it stands would make; nothing while it is incomplete."""
    form = NewJobForm(request.GET)
    if not form.is_valid():
        return HttpResponse("")
    fields = form.cleaned_data
    config = fields["config"].model_dump(mode="json")
    number = versions.propose_number(fields["model"], fields["dataset"], config)
    return HttpResponse(
        f"Makes {escape(fields['model'].name)}@{number}, unless another comes first."
    )


def _initial(request: HttpRequest) -> dict[str, Any]:
    """Values that links carry: an earlier job's (`from`), a preset's, a model and a data set."""
    initial: dict[str, Any] = {}
    if (pk := request.GET.get("from", "")).isdigit():
        earlier = TrainingJob.objects.filter(pk=pk).first()
        if earlier:
            initial = initial_of(earlier.config) | {
                "model": earlier.model_id,
                "dataset": earlier.dataset_id,
            }
    if request.GET.get("preset") in PRESETS:
        initial |= initial_of(nest(PRESETS[request.GET["preset"]][2]))
    return initial | {
        name: request.GET[name] for name in ("model", "dataset") if name in request.GET
    }


def _missing() -> list[str]:
    """What has to be registered before anything can be trained."""
    return [
        kind
        for kind, rows in (("model", Model.objects), ("data set", Dataset.objects))
        if not rows.exists()
    ]


@require_GET
def job(request: HtmxRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(
        TrainingJob.objects.select_related("model", "dataset", "result_version__model__base_model"),
        pk=pk,
    )
    place = overview.queue_positions().get(found.pk) if found.status == "queued" else None
    context = {
        "job": found,
        "percent": round(100 * found.progress),
        "seconds_left": found.seconds_left,
        "place": place,
        "newest": found.metrics.order_by("-iteration").first(),
        "settings": labelled(found.config),
    }
    if not request.htmx:
        context["log"] = overview.tail(log_path(found))
    return render(request, partial(request, "training/job.html", "live"), context)


@require_GET
def job_log(request: HtmxRequest, pk: int) -> HttpResponse:
    """The end of the job's log; the whole page without htmx."""
    found = get_object_or_404(TrainingJob, pk=pk)
    if not request.htmx:
        return redirect(found)
    context = {"job": found, "log": overview.tail(log_path(found))}
    return render(request, "training/job.html#log", context)


@require_GET
def metrics(request: HttpRequest, pk: int) -> JsonResponse:
    """The loss curve beyond iteration `after`, in columns."""
    found = get_object_or_404(TrainingJob, pk=pk)
    after = request.GET.get("after", "-1")
    return JsonResponse(overview.curve(found, int(after) if after.isdigit() else -1))


@require_POST
def job_cancel(request: HttpRequest, pk: int) -> HttpResponse:
    return _change(request, pk, queue.cancel)


@require_POST
def job_retry(request: HttpRequest, pk: int) -> HttpResponse:
    return _change(request, pk, queue.retry)


def _change(
    request: HttpRequest, pk: int, change: Callable[[TrainingJob], TrainingJob]
) -> HttpResponse:
    found = get_object_or_404(TrainingJob, pk=pk)
    try:
        change(found)
    except HubError as error:
        messages.error(request, str(error))
    return redirect(found)
