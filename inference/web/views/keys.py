"""API keys: created here and shown once, limited and revoked."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from inference.keys import issue_key, limit_key, require_scope, revoke_key
from inference.models import ApiToken
from inference.web.forms import KeyForm, KeyLimitsForm
from registry.errors import HubError
from registry.web.htmx import form_page, refuse

LISTED = 500


@never_cache
@require_http_methods(["GET", "POST"])
def keys(request: HttpRequest) -> HttpResponse:
    """The list and the form. Only the answer to the form has the new key's text."""
    form = KeyForm(request.POST or None)
    context: dict[str, Any] = {"form": form}
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                require_scope(request, form.cleaned_data["scope"])
                made, text = issue_key(**form.cleaned_data)
            except HubError as error:
                status = refuse(form, error)
            else:
                status = 200
                origin = f"{request.scheme}://{request.get_host()}"
                context = {"form": KeyForm(), "made": made, "text": text, "origin": origin}
    live_first = ApiToken.objects.order_by(F("revoked_at").asc(nulls_first=True), "name")
    context["keys"] = live_first[:LISTED]
    return form_page(request, "inference/keys.html", context, status)


@require_POST
def key_limits(request: HttpRequest, pk: int) -> HttpResponse:
    key = get_object_or_404(ApiToken, pk=pk)
    form = KeyLimitsForm(request.POST)
    if form.is_valid():
        limit_key(key, **form.cleaned_data)
        messages.success(request, f"Limits of {key} changed.")
    else:
        messages.error(request, "Give a whole number of requests, or leave the limit empty.")
    return redirect("keys")


@require_POST
def key_revoke(request: HttpRequest, pk: int) -> HttpResponse:
    key = get_object_or_404(ApiToken, pk=pk)
    revoke_key(key)
    messages.success(request, f"{key} is revoked.")
    return redirect("keys")
