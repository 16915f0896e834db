"""The form for a new job or sweep, and its preview while someone is typing."""

from __future__ import annotations

from typing import Any, Literal

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from registry.datasets.revisions import newest_named
from registry.errors import HubError
from registry.models import Dataset, Model
from registry.task_types import TASK_TYPES
from registry.web.htmx import form_page, refuse
from registry.web.numbers import whole
from training import queue
from training.config.vocabulary import PRESETS, initial_of, nest
from training.models import Sweep, TrainingJob
from training.queue import sweeps
from training.web import planning, same
from training.web.forms import NewJobForm, repeated, swept

_LOOKED_AT = 50  # of the newest models or data sets


@require_http_methods(["GET", "POST"])
def job_new(request: HttpRequest) -> HttpResponse:
    earlier = _earlier(request)
    dataset = earlier.dataset if earlier else None
    if request.method == "GET":
        form = NewJobForm(initial=_initial(request, earlier), earlier=dataset)
        return render(request, "training/job_new.html", _context(request, form, earlier))
    form = NewJobForm(request.POST, earlier=dataset)
    if "find" in request.POST:  # without JavaScript
        return render(request, "training/job_new.html", _context(request, form, earlier))
    status = 422
    if form.is_valid():
        try:
            return redirect(_queue(form, earlier))
        except HubError as error:
            status = refuse(form, error)
    return form_page(request, "training/job_new.html", _context(request, form, earlier), status)


@require_GET
def rows(request: HttpRequest, name: Literal["model", "dataset"]) -> HttpResponse:
    """The models or data sets that a search finds, to choose from."""
    field = NewJobForm(request.GET)[name]
    answer = render(request, "training/_rows_field.html#rows", {"field": field})
    answer["HX-Trigger-After-Swap"] = "change"  # so that the plan follows
    return answer


@require_POST
def plan(request: HttpRequest) -> HttpResponse:
    """How many jobs the form would queue, what they need, and what is wrong."""
    earlier = _earlier(request)
    form = NewJobForm(request.POST, earlier=earlier.dataset if earlier else None)
    return render(request, "training/job_new.html#plan", _planned(request, form))


def _planned(request: HttpRequest, form: NewJobForm) -> dict[str, Any]:
    plan = planning.plan(form)
    return {"plan": plan, "same": None if plan.problems else same.queued(request, plan.fields)}


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
        "guide": _guide(request),
        "earlier": earlier,
        "earlier_kind": earlier._meta.model_name if earlier else "",
        **_planned(request, form),
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
    given = {name: request.GET[name] for name in ("model", "dataset") if name in request.GET}
    if "model" not in given and (pk := whole(given.get("dataset", ""))) is not None:
        initial |= _model_for(pk)
    elif "dataset" not in given and (pk := whole(given.get("model", ""))) is not None:
        initial |= _dataset_for(pk)
    return initial | given


def _model_for(dataset: int) -> dict[str, int]:
    """The model that was last trained on this data set, or else the newest with such a task."""
    models = Model.objects.filter(archived_at=None).order_by("-pk")
    found = Dataset.objects.filter(pk=dataset).first()
    if found is None:
        return {}
    trained = TrainingJob.objects.filter(dataset__name=found.name, model__archived_at=None)
    if (job := trained.order_by("-pk").first()) is not None:
        return {"model": job.model_id}
    fitting = [m for m in models[:_LOOKED_AT] if _fit(m, found)]
    return {"model": fitting[0].pk} if fitting else {}


def _dataset_for(model: int) -> dict[str, int]:
    """The data set that this model was last trained on, or else the newest for its task."""
    found = Model.objects.filter(pk=model).first()
    if found is None:
        return {}
    job = TrainingJob.objects.filter(model=found).order_by("-pk").select_related("dataset").first()
    if job is not None and (newest := newest_named(job.dataset.name)) is not None:
        return {"dataset": newest.pk}
    newest_first = Dataset.objects.filter(next=None).order_by("-pk")[:_LOOKED_AT]
    fitting = [dataset for dataset in newest_first if _fit(found, dataset)]
    return {"dataset": fitting[0].pk} if fitting else {}


def _fit(model: Model, dataset: Dataset) -> bool:
    """Whether the task answers with labels where the data set has some, and only there."""
    return TASK_TYPES[model.task_type].labels == bool(dataset.labels)


def _guide(request: HttpRequest) -> str:
    """Where a new model is set up: on the data set of the link, if it names one."""
    dataset = whole(request.GET.get("dataset", ""))
    return reverse("start") if dataset is None else reverse("start_data", args=[dataset])


def _missing() -> list[str]:
    """What must be registered before anything can be trained."""
    models = Model.objects.filter(archived_at=None)
    return [
        kind
        for kind, rows in (("model", models), ("data set", Dataset.objects))
        if not rows.exists()
    ]
