"""Buttons that archive, restore, verify and delete versions and models."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from registry.errors import HubError
from registry.maintenance import archive, removal, verification
from registry.models import Model, ModelVersion


@require_POST
def version_move(request: HttpRequest, pk: int, version: str, action: str) -> HttpResponse:
    """Archive, restore or verify, whichever the address names."""
    versions = ModelVersion.objects.select_related("model")
    found = get_object_or_404(versions, model_id=pk, version=version)
    try:
        if action == "verify":
            verification.require_sound(found)
            messages.success(request, f"{found} is verified; every byte is as recorded.")
        elif action == "archive":
            archive.archive_version(found)
            messages.success(request, f"{found} is archived and no longer served.")
        else:
            archive.restore_version(found)
            messages.success(request, f"{found} is restored and can be served.")
    except HubError as error:
        messages.error(request, str(error))
    return redirect(found)


@require_POST
def model_remove(request: HttpRequest, pk: int) -> HttpResponse:
    """Archive the model, or delete it when its name was typed."""
    found = get_object_or_404(Model, pk=pk)
    try:
        done = removal.remove_model(found, request.POST.get("force", "").strip() or None)
    except HubError as error:
        messages.error(request, str(error))
        return redirect(found)
    return _told(request, done, found)


@require_POST
def model_restore(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Model, pk=pk)
    try:
        done = removal.unarchive_model(found)
    except HubError as error:
        messages.error(request, str(error))
        return redirect(found)
    return _told(request, done, found)


def _told(request: HttpRequest, done: removal.Removal, found: Model) -> HttpResponse:
    messages.success(request, f"{done.name} is {done.outcome}.")
    for reason in done.kept_active:
        messages.error(request, reason)
    return redirect("models") if done.outcome == "deleted" else redirect(found)
