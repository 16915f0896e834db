"""The form for a new job or sweep, and its preview while someone is typing."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from registry.errors import HubError
from registry.models import Dataset, Model
from registry.web.htmx import form_page, refuse
from registry.web.numbers import whole
from training import queue
from training.config.vocabulary import PRESETS, initial_of, nest
from training.models import Sweep, TrainingJob
from training.queue import sweeps
from training.web import planning
from training.web.forms import NewJobForm, repeated, swept


@require_http_methods(["GET", "POST"])
def job_new(request: HttpRequest) -> HttpResponse:
    earlier = _earlier(request)
    dataset = earlier.dataset if earlier else None
    if request.method == "GET":
        form = NewJobForm(initial=_initial(request, earlier), earlier=dataset)
        return render(request, "training/job_new.html", _context(request, form, earlier))
    form = NewJobForm(request.POST, earlier=dataset)
    status = 422
    if form.is_valid():
        try:
            return redirect(_queue(form, earlier))
        except HubError as error:
            status = refuse(form, error)
    return form_page(request, "training/job_new.html", _context(request, form, earlier), status)


@require_POST
def plan(request: HttpRequest) -> HttpResponse:
    """How many jobs the form would queue, what they need, and what is wrong."""
    earlier = _earlier(request)
    form = NewJobForm(request.POST, earlier=earlier.dataset if earlier else None)
    return render(request, "training/job_new.html#plan", {"plan": planning.plan(form)})


def _queue(form: NewJobForm, earlier: TrainingJob | Sweep | None) -> TrainingJob | Sweep:
    fields = form.cleaned_data
    what = (fields["model"], fields["dataset"], fields["config"])
    priority = fields["priority"] or 0
    if fields["grid"]:
        return sweeps.start(*what, fields["grid"], name=fields["name"], priority=priority)
    cloned = earlier if isinstance(earlier, TrainingJob) else None
    number = fields["version_number"]
    return queue.enqueue(*what, priority, cloned_from=cloned, version_number=number)


def _context(
    request: HttpRequest, form: NewJobForm, earlier: TrainingJob | Sweep | None
) -> dict[str, Any]:
    return {
        "form": form,
        "presets": PRESETS,
        "preset_name": request.GET.get("preset", ""),
        "missing": _missing(),
        "earlier": earlier,
        "earlier_kind": earlier._meta.model_name if earlier else "",
        "plan": planning.plan(form),
    }


def _earlier(request: HttpRequest) -> TrainingJob | Sweep | None:
    """The job (`from`) or sweep (`sweep`) to repeat."""
    values = request.GET if request.method == "GET" else request.POST
    job, sweep = whole(values.get("from", "")), whole(values.get("sweep", ""))
    if job is not None:
        return TrainingJob.objects.select_related("dataset").filter(pk=job).first()
    if sweep is not None:
        return Sweep.objects.select_related("dataset").filter(pk=sweep).first()
    return None


def _initial(request: HttpRequest, earlier: TrainingJob | Sweep | None) -> dict[str, Any]:
    """Values from the link: an earlier job's or sweep's, a preset's, a model and a data set."""
    initial: dict[str, Any] = {}
    if earlier is not None:
        initial = repeated(earlier) if isinstance(earlier, TrainingJob) else swept(earlier)
    if request.GET.get("preset") in PRESETS:
        initial |= initial_of(nest(PRESETS[request.GET["preset"]][2]))
    return initial | {
        name: request.GET[name] for name in ("model", "dataset") if name in request.GET
    }


def _missing() -> list[str]:
    """What must be registered before anything can be trained."""
    models = Model.objects.filter(archived_at=None)
    return [
        kind
        for kind, rows in (("model", models), ("data set", Dataset.objects))
        if not rows.exists()
    ]
