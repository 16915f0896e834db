"""The MLflow runs of a model: a section of its page, loaded after it, and a page of their own."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from registry.errors import Unavailable
from registry.mlflow import tracking
from registry.models import Model
from registry.web.htmx import HtmxRequest, is_part
from registry.web.views.models import model_page

SHOWN = 20
LIMIT_S = 4.0


@require_GET
def model_runs(request: HtmxRequest, pk: int) -> HttpResponse:
    """Says so, with status 200, when MLflow does not answer: htmx shows no other. While its process
    starts, the section asks again by itself."""
    found = get_object_or_404(Model.objects.select_related("base_model"), pk=pk)
    context: dict[str, Any] = {"shown": SHOWN, "mlflow": settings.MLFLOW_TRACKING_URI}
    part = is_part(request)
    context |= {"model": found} if part else model_page(found, "runs")
    template = "registry/models/_runs.html" if part else "registry/models/runs.html"
    if request.htmx.boosted:  # the tab opens at once and asks by itself
        return render(request, template, {**context, "asking": True})
    try:
        context["runs"] = tracking.history(found, SHOWN, LIMIT_S)
    except tracking.MLflowStarting as error:
        context["starting"] = str(error)
    except Unavailable as error:
        context["trouble"] = str(error)
    return render(request, template, context)
