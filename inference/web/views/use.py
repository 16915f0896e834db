"""How a model or a version is used from code, with a prompt of its own data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from inference.playground.programs import programs
from inference.playground.questions import SHAPED_BY, asked_of
from registry.errors import HubError
from registry.models import Model, ModelVersion
from registry.promotion.resolve import find as find_served
from registry.storage import paths
from registry.web.views.models import model_page
from registry.web.views.versions import find, page


@require_GET
def version_use(request: HttpRequest, pk: int, version: str) -> HttpResponse:
    """`?in=` chooses the language."""
    found = find(pk, version)
    context = page(found, "use") | _code(request, str(found), found)
    return render(request, "inference/version_use.html", context)


@require_GET
def model_use(request: HttpRequest, pk: int) -> HttpResponse:
    """By the model's bare name, which the version in production answers, else the newest."""
    found = get_object_or_404(Model.objects.select_related("base_model"), pk=pk)
    context: dict[str, Any] = {**model_page(found, "use")}
    try:
        answering = find_served(found.name).version
    except HubError as error:
        context["trouble"] = str(error)
    else:
        if answering is not None:
            answering = find(pk, answering.version)
            context |= {"answering": answering} | _code(request, found.name, answering)
    return render(request, "inference/model_use.html", context)


def _code(request: HttpRequest, name: str, version: ModelVersion) -> dict[str, Any]:
    asked = asked_of(version)
    origin = f"{request.scheme}://{request.get_host()}"
    keyed = not settings.IS_LOOPBACK
    made = programs(name, asked, origin, keyed, _files(version))
    wanted = request.GET.get("in", "")
    shown = next((program for program in made if program.key == wanted), made[0])
    return {
        "asked": asked,
        "shaped_by": SHAPED_BY,
        "programs": made,
        "shown": shown,
        "keyed": keyed,
        "called": name,
        "of": version,
    }


def _files(version: ModelVersion) -> tuple[Path, Path] | None:
    """The folders of its base and of itself, as seen from the hub's folder."""
    if not version.artifact_path:
        return None
    folders = [paths.absolute(at) for at in (version.base_model.path, version.artifact_path)]
    near = [
        at.relative_to(settings.BASE_DIR) if at.is_relative_to(settings.BASE_DIR) else at
        for at in folders
    ]
    return near[0], near[1]
