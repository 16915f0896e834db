"""The page of all jobs: running, waiting in order, and finished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from registry.errors import HubError
from registry.models import Model
from registry.web.htmx import HtmxRequest
from registry.web.lists import Action, Column, Filter, Listing, Order, act
from registry.web.lists.columns import DATASET, MODEL, STATUS, created
from registry.web.lists.filters import SPAN
from registry.web.numbers import whole
from training import queue
from training.models import Sweep, TrainingJob
from training.queue import Where
from training.web import overview

_SWEEPS = 4
_MODELS = 50  # suggested, newest first; any other name can be typed

_MOVES = (
    ("first", "Move to the front"),
    ("up", "Move up"),
    ("down", "Move down"),
    ("last", "Move to the end"),
)

Change = Callable[[TrainingJob], object]


def _over(job: TrainingJob) -> str:
    return f"It is already {job.status}." if job.is_over else ""


def _ended_well(job: TrainingJob) -> str:
    retried = job.status in (TrainingJob.Status.FAILED, TrainingJob.Status.CANCELLED)
    return "" if retried else f"It is {job.status}; only failed or cancelled jobs are retried."


JOBS = Listing[TrainingJob](
    noun="job",
    columns=(
        Column("job", "Job"),
        MODEL,
        replace(DATASET, room=True),
        STATUS,
        Column("steps", "Steps", kind="n", room=True),
        Column("val_loss", "Validation loss", kind="n"),
        Column("result", "Result", kind="wrap", room=True),
        created("Queued"),
        Column(
            "completed_at",
            "Finished",
            "ago",
            kind="fit",
            sort="finished",
            order=Order(("-completed_at", "-pk"), needs="completed_at"),
            shown=False,
        ),
    ),
    sort="new",
    filters=(
        Filter("status", "Status", hint="All finished", options=TrainingJob.Status.choices),
        Filter(
            "model",
            "Model",
            "text",
            "Model name",
            options=lambda: Model.objects.values_list("name", "name")[:_MODELS],
        ),
        SPAN,
    ),
    actions=(
        Action(
            "cancel",
            "Cancel",
            "cancelled",
            "A waiting job leaves the queue at once. A running one stops at its next step and keeps"
            " its checkpoint.",
            do=queue.cancel,
            refuses=_over,
            danger=True,
        ),
        Action(
            "retry",
            "Retry",
            "queued again",
            "Each is queued again and continues from its checkpoint.",
            do=queue.retry,
            refuses=_ended_well,
        ),
    ),
    acts_at="jobs_selected",
    summary=True,
    heading=lambda job: f"Job {job.pk}",
)


@require_GET
def jobs(request: HtmxRequest) -> HttpResponse:
    shown = JOBS.asked(request)
    found = overview.find_jobs(shown.query["status"], shown.query["model"])
    shown.show(found.filter(**shown.bounds.of("created_at")))
    live = TrainingJob.objects.filter(status__in=["queued", "running"])
    context: dict[str, Any] = {"live": live.exists}
    if not shown.part:
        context |= _line()
        context["sweeps"] = Sweep.objects.select_related("model", "dataset")[:_SWEEPS]
    return shown.render("training/jobs.html", context)


@require_POST
def selected(request: HtmxRequest, action: str) -> HttpResponse:
    """Do something with the jobs that are selected."""
    found = TrainingJob.objects.select_related("model", "dataset")
    return act(request, JOBS, action, found, reverse("jobs"))


@require_GET
def line(request: HtmxRequest) -> HttpResponse:
    """The running and waiting jobs; without htmx the whole page."""
    return _answer(request)


@require_POST
def move(request: HtmxRequest, pk: int, where: Where) -> HttpResponse:
    if where not in get_args(Where):
        return HttpResponseBadRequest("A job can move first, up, down or last.")
    return _change(request, pk, lambda job: queue.move(job, where))


@require_POST
def prioritize(request: HtmxRequest, pk: int) -> HttpResponse:
    text = request.POST.get("priority", "").strip()
    size = whole(text.removeprefix("-"))
    if size is None or size > 1000:
        return _answer(request, "The priority must be a whole number from -1000 to 1000.")
    priority = -size if text.startswith("-") else size
    return _change(request, pk, lambda job: queue.prioritize(job, priority))


@require_POST
def pause(request: HtmxRequest, pk: int) -> HttpResponse:
    return _change(request, pk, queue.pause)


@require_POST
def resume(request: HtmxRequest, pk: int) -> HttpResponse:
    return _change(request, pk, queue.resume)


@require_POST
def cancel(request: HtmxRequest, pk: int) -> HttpResponse:
    return _change(request, pk, queue.cancel)


@require_POST
def retry(request: HtmxRequest, pk: int) -> HttpResponse:
    return _change(request, pk, queue.retry)


@require_POST
def retry_halved(request: HtmxRequest, pk: int) -> HttpResponse:
    return _change(request, pk, queue.retry_halved)


def _change(request: HtmxRequest, pk: int, change: Change) -> HttpResponse:
    """Change the job; then the queue for htmx, else a redirect to the page with the form."""
    job = get_object_or_404(TrainingJob, pk=pk)
    try:
        change(job)
    except HubError as error:
        return _answer(request, str(error), job)
    return _answer(request, "", job)


def _answer(
    request: HtmxRequest, problem: str = "", job: TrainingJob | None = None
) -> HttpResponse:
    if request.htmx:
        context = {**_line(), "problem": problem}
        return render(request, "training/jobs.html#line", context)
    if problem:
        messages.error(request, problem)
    back = request.POST.get("back") == "jobs"
    return redirect("jobs") if job is None or back else redirect(job)


def _line() -> dict[str, Any]:
    running, waiting, count = overview.queue()
    rows = [(job, overview.situation(job, place)) for place, job in enumerate(waiting, start=1)]
    return {
        "running": running,
        "doing": overview.situation(running, None) if running else "",
        "waiting": rows,
        "waiting_count": count,
        "moves": _MOVES,
    }
