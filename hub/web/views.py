"""The dashboard and the system page."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_GET

from hub.monitoring import health, speeds, updates
from hub.monitoring import samples as monitoring_samples
from hub.monitoring.alerts.firing import Now, firing
from hub.monitoring.logs import PROCESSES
from hub.processes import presence
from hub.web import search
from inference.loaded import loaded_models
from inference.models import InferenceRequest
from registry.datasets import uploads
from registry.mlflow import outbox
from registry.models import Alias, BaseModel, ModelVersion
from registry.promotion.resolve import PRODUCTION
from registry.web.htmx import HtmxRequest, partial
from registry.web.numbers import whole
from training.models import Setup, TrainingJob

MAX_RUNS = 200
_UPLOADS = 3
MAX_SAMPLES = 360  # points in a chart; an hour at one per 10 s
_DAY = 24 * 60  # minutes
_SAMPLED = (
    *("cpu_percent", "gpu_percent", "memory_used_bytes"),
    *("engine_memory_bytes", "training_memory_bytes", "memory_total_bytes"),
)


@require_GET
def dashboard(request: HtmxRequest) -> HttpResponse:
    engine = health.running_engine_stats()
    running = TrainingJob.objects.running().select_related("model", "dataset").first()
    parts, sample = health.parts(), monitoring_samples.newest()
    context: dict[str, Any] = {
        "alerts": firing(Now(parts, engine, sample, training=running is not None)),
        "serving": _serving(),
        "engine": engine,
        "running": running,
        "percent": round(100 * running.progress) if running else 0,
        "left": str(running.remaining) if running else "",
        "queued": TrainingJob.objects.filter(status=TrainingJob.Status.QUEUED).count(),
        "last_job": None if running else _last_job(),
        "requests": list(InferenceRequest.objects.with_names()[:6]),
        "health": parts,
        "sample": sample,
    }
    if not request.htmx:
        context["update"] = updates.newest()
        context["steps"] = _first_steps(asked=bool(context["requests"]))
        context["uploads"] = uploads.waiting()[:_UPLOADS]
    return render(request, partial(request, "hub/dashboard.html", "live"), context)


def _serving() -> list[Alias]:
    """The versions promoted to production, most recently promoted first."""
    aliases = Alias.objects.filter(name=PRODUCTION).order_by("-updated_at", "-pk")
    # First which ones: otherwise the versions of all are joined, and sorted with all that they hold.
    shown = aliases.filter(pk__in=aliases.values("pk")[:6])
    return list(shown.select_related("model", "version__base_model"))


def _last_job() -> TrainingJob | None:
    jobs = TrainingJob.objects.select_related("model", "result_version__model")
    # A subquery picks the job: otherwise SQLite would join all jobs before it sorts them.
    return jobs.filter(pk__in=TrainingJob.objects.values("pk")[:1]).first()


@dataclass(frozen=True)
class Step:
    """A first step of a new user; without a `url` there is nothing to do."""

    text: str
    status: str
    state: str
    url: str = ""
    label: str = ""


def _first_steps(*, asked: bool) -> list[Step]:
    """From a file to an answer; none when a version is ready and a question was answered."""
    ready = ModelVersion.objects.last_served()
    if ready and asked:
        return []
    return [_train(done=ready is not None), _try(ready, done=asked)]


def _train(*, done: bool) -> Step:
    text = "Train a first version"
    if done:
        return Step(text, "ok", "Done")
    alive = TrainingJob.objects.filter(status__in=["running", "queued"]).order_by("pk").first()
    setup = Setup.objects.up_to_date().filter(status=Setup.Status.RUNNING).first()
    if under_way := alive or setup:
        return Step(text, "running", "Running", under_way.get_absolute_url(), "Watch")
    return Step(text, "queued", "To do", reverse("start"), "Start")


def _try(ready: ModelVersion | None, *, done: bool) -> Step:
    text = "Try it, and copy the Python that asks it"
    if done:
        return Step(text, "ok", "Done")
    query = {"model": str(ready), "try": "yes"}
    return Step(
        text, "queued", "To do", reverse("playground", query=query) if ready else "", "Try it"
    )


@require_GET
def find(request: HtmxRequest) -> HttpResponse:
    """Everything that fits `q`; for the palette only the list."""
    q = request.GET.get("q", "").strip()[:100]
    context = {"q": q, "groups": search.search(request, q)}
    return render(request, partial(request, "hub/search.html", "found"), context)


@require_GET
def system(request: HtmxRequest) -> HttpResponse:
    engine = health.running_engine_stats()
    context = {
        "health": health.parts(),
        "engine": engine,
        "loaded": loaded_models(engine) if engine else [],
        "processes": [(name, presence.pid(name)) for name in PROCESSES],
        "sample": monitoring_samples.newest(),
        "database": settings.DATABASES["default"]["ENGINE"].rpartition(".")[2],
        "outbox": outbox.waiting().count(),
        "refused": outbox.given_up().count(),
        "bases": BaseModel.objects.order_by("name"),
        "storage": settings.STORAGE,
        "backend": settings.BACKEND,
    }
    return render(request, partial(request, "hub/system.html", "live"), context)


@require_GET
def speed(request: HttpRequest) -> HttpResponse:
    """What `manage.py bench` has measured, run by run."""
    runs = speeds.history()
    newest = runs[0] if runs else None
    context = {
        "kinds": speeds.KINDS,
        "newest": newest,
        "rows": speeds.compare(newest, speeds.before(newest, runs[1:])) if newest else [],
        "runs": [
            (
                parse_datetime(run.made),
                run,
                [(kind.label, run.figures.get(kind.name)) for kind in speeds.KINDS],
            )
            for run in runs[:MAX_RUNS]
        ],
    }
    return render(request, "hub/speed.html", context)


@require_GET
def samples(request: HttpRequest) -> JsonResponse:
    """The machine over the last `minutes`, or in more detail `from` one second `to` another, in columns
    for a chart. What is asked ends a day ago."""
    minutes, first, end = (whole(request.GET.get(name, "")) for name in ("minutes", "from", "to"))
    now = timezone.now()
    since = now - datetime.timedelta(minutes=30 if minutes is None else min(minutes, _DAY))
    if first is not None and end is not None:
        earliest = now - datetime.timedelta(minutes=_DAY)
        since = max(
            earliest, datetime.datetime.fromtimestamp(min(first, now.timestamp()), datetime.UTC)
        )
    rows = monitoring_samples.since(since, *_SAMPLED)
    if end is not None:
        rows = [row for row in rows if row[0].timestamp() <= end]
    kept = _with_gaps(monitoring_samples.fewer(rows, _SAMPLED, MAX_SAMPLES))
    columns = list(zip(*kept, strict=True)) or [()] * 7
    return JsonResponse(
        {
            "time": [moment.timestamp() for moment in columns[0]],
            "cpu": columns[1],
            "gpu": columns[2],
            "memory": columns[3],
            "engine": columns[4],
            "training": columns[5],
            "total": columns[6][-1] if columns[6] else None,
            "thinned": len(rows) > MAX_SAMPLES,
        }
    )


def _with_gaps(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """A row of nothing where the hub did not run, so that no line is drawn across."""
    apart = [later[0] - earlier[0] for earlier, later in pairwise(rows)]
    if not apart:
        return rows
    usual = sorted(apart)[len(apart) // 2]
    found = []
    for row, gap in zip(rows, [*apart, usual], strict=True):
        found.append(row)
        if gap > 4 * usual:
            found.append((row[0] + usual, *[None] * (len(row) - 1)))
    return found
