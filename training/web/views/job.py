"""The page of one job, which updates itself while the job runs."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from registry.errors import HubError
from registry.models import ModelVersion
from registry.versions import curves
from registry.web.htmx import HtmxRequest, partial
from registry.web.numbers import whole
from training.attempt import reproduction
from training.config.vocabulary import labelled, varied_words
from training.models import TrainingJob
from training.web import attempts, logs, overview
from training.worker.supervisor import log_path


@require_GET
def job(request: HtmxRequest, pk: int) -> HttpResponse:
    """`?with=JOB`, once or more, adds the curves of other jobs to the charts."""
    found = get_object_or_404(
        TrainingJob.objects.select_related(
            "model__base_model",
            "dataset",
            "sweep",
            "cloned_from",
            "result_version__model",
            "reproduces__model",
        ),
        pk=pk,
    )
    place = overview.place_of(found)
    context: dict[str, Any] = {
        "job": found,
        "percent": round(100 * found.progress),
        "left": str(found.remaining),
        "place": place,
        "situation": overview.situation(found, place),
        "newest": found.metrics.order_by("-iteration").first(),
        "best": curves.best(found),
        # `+12 %`: how much the measured peak differs from the estimate.
        "memory_off": "" if found.memory_error is None else f"{100 * found.memory_error:+.0f} %",
        "varied": varied_words(found.varied),
        "timeline": attempts.timeline(found),
    }
    if not request.htmx:
        context |= {
            **_log(request, found),
            "settings": labelled(found.config),
            "evaluations": overview.evaluations(found),
            "samples": overview.samples(found),
            **_runs(request, found),
        }
    return render(request, partial(request, "training/job.html", "live"), context)


def _runs(request: HttpRequest, job: TrainingJob) -> dict[str, Any]:
    """The jobs that can be compared, each with whether it is selected; and the selected ones."""
    wanted = set(map(whole, request.GET.getlist("with")))
    offered = list(overview.comparable(job))
    chosen = [other for other in offered if other.pk in wanted][: overview.MAX_RUNS - 1]
    return {
        "offered": [(other, run_label(other), other in chosen) for other in offered],
        "runs": [(other, run_label(other)) for other in (job, *chosen)],
    }


@require_GET
def runs(request: HtmxRequest, pk: int) -> HttpResponse:
    """The runs of the same model, for the charts of other pages; without htmx the job's page."""
    found = get_object_or_404(TrainingJob, pk=pk)
    if not request.htmx:
        return redirect(found)
    return render(request, "training/_runs.html", {"job": found, **_runs(request, found)})


def run_label(job: TrainingJob) -> str:
    """`Job 7 · LoRA rank 16`, for a legend."""
    varied = varied_words(job.varied)
    return f"Job {job.pk} · {varied}" if varied else f"Job {job.pk}"


@require_POST
def version_reproduce(request: HttpRequest, pk: int, version: str) -> HttpResponse:
    """Queue a job that trains the version again, and redirect to the job."""
    found = get_object_or_404(
        ModelVersion.objects.select_related("model", "base_model", "dataset"),
        model_id=pk,
        version=version,
    )
    try:
        return redirect(reproduction.enqueue(found))
    except HubError as error:
        messages.error(request, str(error))
        return redirect(found)


@require_GET
def log(request: HtmxRequest, pk: int) -> HttpResponse:
    """The end of the job's log, or its lines that contain `q`; without htmx the whole page."""
    found = get_object_or_404(TrainingJob, pk=pk)
    if not request.htmx:
        return redirect(found)
    return render(request, "training/job.html#log", {"job": found, **_log(request, found)})


@require_GET
def log_file(request: HttpRequest, pk: int) -> FileResponse:
    """The whole log of all attempts, as it was written: one JSON object a line, and what libraries
    print."""
    found = get_object_or_404(TrainingJob, pk=pk)
    try:
        file = log_path(found).open("rb")
    except OSError as error:
        raise Http404 from error
    return FileResponse(file, as_attachment=True, filename=f"job-{pk}.log")


def _log(request: HttpRequest, job: TrainingJob) -> dict[str, Any]:
    return {"log": logs.excerpt(log_path(job), request.GET.get("q", "").strip())}


@require_GET
def measured(request: HtmxRequest, pk: int) -> HttpResponse:
    """Validations and sample answers so far; without htmx the whole page."""
    found = get_object_or_404(TrainingJob, pk=pk)
    if not request.htmx:
        return redirect(found)
    context = {
        "job": found,
        "evaluations": overview.evaluations(found),
        "samples": overview.samples(found),
    }
    return render(request, "training/job.html#measured", context)


@require_GET
def metrics(request: HttpRequest, pk: int) -> JsonResponse:
    """The job's curves in columns: all of them, those after iteration `after`, or in more detail those
    `from` one iteration `to` another."""
    found = get_object_or_404(TrainingJob, pk=pk)
    after, first, last = (whole(request.GET.get(name, "")) for name in ("after", "from", "to"))
    if after is not None:
        first = after + 1
    return JsonResponse(overview.curve(found, first or 0, last))
