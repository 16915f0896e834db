"""The page that lays versions side by side."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from registry.errors import HubError
from registry.models import ModelVersion
from registry.versions import comparison
from registry.web.paging import rows_between

_OFFERED = 50


@require_GET
def compare(request: HttpRequest) -> HttpResponse:
    """`?v=NAME@VERSION` twice or more; without that a form to choose them."""
    names = request.GET.getlist("v")
    context: dict[str, Any] = {"names": names}
    status = 200
    if any(names):
        try:
            context["comparison"] = comparison.compare(comparison.find_versions(names))
        except HubError as error:
            context["problem"], status = str(error), error.status
    newest = ModelVersion.objects.ready().select_related("model").order_by("-created_at", "-pk")
    newest = newest.only("version", "model__name")
    context["offered"] = rows_between(newest, 0, _OFFERED)
    return render(request, "registry/versions/compare.html", context, status=status)
