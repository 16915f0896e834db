"""Pages of base models."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from registry.bases import register_starter
from registry.errors import HubError


@require_POST
def starter_base(request: HttpRequest) -> HttpResponse:
    try:
        base = register_starter()
    except HubError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"{base.name} is imported.")
    return redirect("model_new")
