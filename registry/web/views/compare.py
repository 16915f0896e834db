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
    context: dict[str, Any] = {}
    status = 200
    compared: list[ModelVersion] = []
    if any(names):
        try:
            compared = comparison.find_versions(names)
            context["comparison"] = comparison.compare(compared)
            jobs = (getattr(version, "job", None) for version in compared)
            context["job"] = next(filter(None, jobs), None)
        except HubError as error:
            context["problem"], status = str(error), error.status
    chosen = [str(version) for version in compared] or [name for name in names if name]
    context |= {"choices": _choices(chosen), "offered": _offered(compared)}
    return render(request, "registry/versions/compare.html", context, status=status)


def _choices(chosen: list[str]) -> list[dict[str, str]]:
    """A field for each version that is compared, and for another; two at least."""
    free = max(2 - len(chosen), min(1, comparison.MOST - len(chosen)))
    return [
        {"label": f"Version {number}", "chosen": name}
        for number, name in enumerate([*chosen, *[""] * free], start=1)
    ]


def _offered(compared: list[ModelVersion]) -> dict[str, list[str]]:
    """Names by model: those that are compared, the newest of their models and of all."""
    ready = ModelVersion.objects.ready().select_related("model").order_by("-created_at", "-pk")
    ready = ready.only("version", "major", "minor", "patch", "model__name")
    own = ready.filter(model__in={version.model_id for version in compared})
    near = rows_between(own, 0, _OFFERED) if compared else []
    found = [*compared, *near, *rows_between(ready, 0, _OFFERED)]
    groups: dict[str, dict[str, None]] = {}
    for version in sorted(found, key=lambda one: (one.major, one.minor, one.patch), reverse=True):
        groups.setdefault(version.model.name, {})[str(version)] = None
    return {name: list(groups[name]) for name in sorted(groups)}
