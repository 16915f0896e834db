"""Pages of versions."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from registry.catalog import overview
from registry.errors import HubError
from registry.models import ModelVersion
from registry.promotion.resolve import PRODUCTION
from registry.storage import artifacts, paths
from registry.versions import drawing, graph, reports
from registry.versions.lifecycle import write_notes
from registry.web.forms import NotesForm


@require_GET
def version(request: HttpRequest, pk: int, version: str) -> HttpResponse:
    versions = ModelVersion.objects.select_related(
        "model", "base_model", "dataset", "parent__model", "job"
    ).prefetch_related("aliases")
    found = get_object_or_404(versions, model_id=pk, version=version)
    context = {
        "version": found,
        "job": getattr(found, "job", None),
        "metrics": overview.ordered_metrics(found),
        "params": overview.flat_params(found),
        "in_production": any(alias.name == PRODUCTION for alias in found.aliases.all()),
        "notes_form": NotesForm(initial={"notes": found.notes}),
        "request_count": found.requests.count(),
        "trial": _trial(found),
        "reports": reports.prepared(found.evaluation),
        "picture": drawing.draw(graph.graph(found)),
        **_files(found),
    }
    return render(request, "registry/versions/detail.html", context)


@require_POST
def notes(request: HttpRequest, pk: int, version: str) -> HttpResponse:
    found = get_object_or_404(ModelVersion, model_id=pk, version=version)
    form = NotesForm(request.POST)
    if form.is_valid():
        write_notes(found, form.cleaned_data["notes"])
        messages.success(request, f"The notes on {found} are saved.")
    else:
        messages.error(request, " ".join(map(str, form.errors["notes"])))
    return redirect(found)


def _trial(version: ModelVersion) -> dict[str, str]:
    """The form to try it that its task has, with a text to begin with; {} for the playground alone."""
    form = version.model.task.form
    if version.status != ModelVersion.Status.READY or form == "chat":
        return {}
    if form == "labels" and not version.labels:
        return {}
    [first] = version.evaluation.get("samples", [])[:1] or [{}]
    return {"form": form, "text": first.get("prompt", "")[:500]}


def _files(version: ModelVersion) -> dict[str, Any]:
    """The manifest's files, or the sentence that says why they cannot be shown."""
    if not version.artifact_path:
        return {}
    try:
        manifest = artifacts.read_manifest(paths.root() / version.artifact_path)
    except (HubError, OSError, ValueError) as error:
        return {"files_error": str(error)}
    return {"files": manifest.files}


@require_GET
def version_diff(request: HttpRequest, pk: int, version: str) -> HttpResponse:
    """What the hub's code differed by from its commit, as a file."""
    found = get_object_or_404(
        ModelVersion.objects.select_related("model"), model_id=pk, version=version
    )
    if not found.git_diff:
        raise Http404
    name = f"{found.model.name}-{found.version}.diff"
    return HttpResponse(
        found.git_diff,
        content_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
