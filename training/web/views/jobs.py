"""The page of all jobs: running, waiting in order, and finished."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from registry.errors import HubError
from registry.models import Model
from registry.web.htmx import HtmxRequest, partial
from registry.web.numbers import whole
from registry.web.paging import RowPages
from training import queue
from training.models import Sweep, TrainingJob
from training.queue import Where
from training.web import overview

PER_PAGE = 25
_SWEEPS = 4
_MODELS = 50  # suggested, newest first; any other name can be typed

_MOVES = (
    ("first", "Move to the front"),
    ("up", "Move up"),
    ("down", "Move down"),
    ("last", "Move to the end"),
)

Change = Callable[[TrainingJob], object]


@require_GET
def jobs(request: HtmxRequest) -> HttpResponse:
    query = {name: request.GET.get(name, "").strip() for name in ("status", "model")}
    pages = RowPages(overview.find_jobs(**query), PER_PAGE)
    if not any(query.values()):
        pages.count = overview.count_over()
    context = {
        "page": pages.get_page(request.GET.get("page")),
        "query": query,
        "live": TrainingJob.objects.filter(status__in=["queued", "running"]).exists(),
        "statuses": TrainingJob.Status.choices,
    }
    if not request.htmx:
        context |= _line()
        context["models"] = Model.objects.values_list("name", flat=True)[:_MODELS]
        context["sweeps"] = Sweep.objects.select_related("model", "dataset")[:_SWEEPS]
    return render(request, partial(request, "training/jobs.html", "rows"), context)


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
