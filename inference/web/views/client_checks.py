"""What agents need of a version or a base model: the newest check, and the button that starts another."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from inference.clients import checks
from inference.clients.table import APIS, report
from inference.models import ClientCheck
from registry.background import work
from registry.errors import HubError
from registry.models import BaseModel, ModelVersion
from registry.models.work import WorkQuerySet
from registry.web.htmx import HtmxRequest, partial


@require_http_methods(["GET", "POST"])
def client_checks(request: HtmxRequest, pk: int, version: str) -> HttpResponse:
    versions = ModelVersion.objects.select_related("model", "base_model")
    found = get_object_or_404(versions, model_id=pk, version=version)
    context = {
        "version": found,
        "base": found.base_model,
        "subject": str(found),
        "back": found.get_absolute_url(),
        "can_check": found.status == ModelVersion.Status.READY,
    }
    return _page(request, context, ClientCheck.objects.filter(version=found))


@require_http_methods(["GET", "POST"])
def base_client_checks(request: HtmxRequest, pk: int) -> HttpResponse:
    base = get_object_or_404(BaseModel, pk=pk)
    context = {
        "base": base,
        "subject": f"base:{base.name}",
        "back": reverse("base", args=[pk]),
        "can_check": not base.embeds_only,
    }
    own = ClientCheck.objects.filter(version=None, base_model=base)
    return _page(request, context, own)


def _page(
    request: HtmxRequest, context: dict[str, Any], checked: WorkQuerySet[ClientCheck]
) -> HttpResponse:
    """The newest check, and what the newest completed one found; POST starts another."""
    if request.method == "POST":
        try:
            work.launch(checks.plan(context["subject"]))
        except HubError as error:
            messages.error(request, str(error))
        return redirect(request.path)
    own = checked.up_to_date()
    done = own.filter(status=ClientCheck.Status.COMPLETED).first()
    context |= {
        "newest": own.select_related("version__model", "base_model").first(),
        "done": done,
        "report": report(done) if done else None,
        "apis": APIS,
    }
    return render(request, partial(request, "inference/clients.html", "found"), context)
