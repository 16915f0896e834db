"""Pages of versions."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from registry import artifacts, overview, paths
from registry.errors import HubError
from registry.models import ModelVersion


@require_GET
def version(request: HttpRequest, pk: int, version: str) -> HttpResponse:
    versions = ModelVersion.objects.select_related(
        "model", "base_model", "dataset", "parent", "job"
    ).prefetch_related("aliases")
    found = get_object_or_404(versions, model_id=pk, version=version)
    context = {
        "version": found,
        "job": getattr(found, "job", None),
        "metrics": overview.ordered_metrics(found),
        "params": overview.flat_params(found),
        "request_count": found.requests.count(),
        **_files(found),
    }
    return render(request, "registry/version.html", context)


def _files(version: ModelVersion) -> dict[str, Any]:
    """The manifest's files, or the sentence that says why they cannot be shown."""
    if not version.artifact_path:
        return {}
    try:
        manifest = artifacts.read_manifest(paths.root() / version.artifact_path)
    except (HubError, OSError, ValueError) as error:
        return {"files_error": str(error)}
    return {"files": manifest.files}
