"""The page of all jobs: what runs, what waits and in which order, and what was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
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
_MODELS = 50  # offered, newest first; any other name may be typed

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
    """What runs and waits; the whole page without htmx."""
    return _answer(request)


@require_POST
def move(request: HtmxRequest, pk: int, where: Where) -> HttpResponse:
    if where not in get_args(Where):
        return HttpResponseBadRequest("A job moves first, up, down or last.")
    return _change(request, pk, lambda job: queue.move(job, where))


@require_POST
def prioritize(request: HtmxRequest, pk: int) -> HttpResponse:
    text = request.POST.get("priority", "").strip()
    size = whole(text.removeprefix("-"))
    if size is None or size > 1000:
        return _answer(request, "A priority is a whole number from -1000 to 1000.")
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
    """Change the job; then the line of jobs for htmx, else the page that the form was on."""
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
    return redirect("jobs") if job is None or _from_line(request) else redirect(job)


def _from_line(request: HttpRequest) -> bool:
    return request.POST.get("back") == "jobs"


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
