"""What agents need of a version: the newest check, and the button that starts another."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from inference.clients import checks
from inference.clients.table import APIS, report
from inference.models import ClientCheck
from registry.background import work
from registry.errors import HubError
from registry.models import ModelVersion
from registry.web.htmx import HtmxRequest, partial


@require_http_methods(["GET", "POST"])
def client_checks(request: HtmxRequest, pk: int, version: str) -> HttpResponse:
    versions = ModelVersion.objects.select_related("model", "base_model")
    found = get_object_or_404(versions, model_id=pk, version=version)
    if request.method == "POST":
        try:
            work.launch(checks.plan(str(found)))
        except HubError as error:
            messages.error(request, str(error))
        return redirect("client_checks", pk=pk, version=version)
    return render(request, partial(request, "inference/clients.html", "found"), _context(found))


def _context(version: ModelVersion) -> dict[str, Any]:
    """The newest check, and what the newest completed one found."""
    own = ClientCheck.objects.filter(version=version).up_to_date()
    newest = own.select_related("version__model", "base_model").first()
    done = own.filter(status=ClientCheck.Status.COMPLETED).first()
    return {
        "version": version,
        "newest": newest,
        "done": done,
        "report": report(done) if done else None,
        "apis": APIS,
    }
