"""API keys: created here and shown once, limited and revoked."""

from __future__ import annotations

import datetime
from typing import Any

from django.contrib import messages
from django.db.models import DateTimeField, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from inference.keys import issue_key, limit_key, require_scope, revoke_key
from inference.models import ApiToken
from inference.web.forms import KeyForm, KeyLimitsForm
from registry.errors import HubError
from registry.web.htmx import HtmxRequest, refuse
from registry.web.lists import Action, Column, Filter, Listing, Order, Shown, act
from registry.web.lists.columns import created

_NEVER = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_LIVE = {"live": True, "revoked": False}


def _revoked(key: ApiToken) -> str:
    return "It is revoked already." if key.revoked_at else ""


def _since(column: str) -> Coalesce:
    """That moment; the earliest one where it has not come. The table is small."""
    return Coalesce(column, Value(_NEVER, output_field=DateTimeField()))


KEYS = Listing[ApiToken](
    noun="key",
    columns=(
        Column(
            "name",
            "Name",
            kind="wrap",
            order=Order((_since("revoked_at").asc(), "name", "pk")),  # live ones first
        ),
        Column("scope", "Scope", kind="wrap", phone="line"),
        Column("requests", "Requests", kind="n", order=Order(("-requests", "-pk"))),
        Column("prompt_tokens", "Prompt tokens", "count", kind="n", room=True),
        Column("completion_tokens", "Completion tokens", "count", kind="n", room=True),
        Column(
            "last_used_at",
            "Last used",
            kind="fit",
            phone="line",
            sort="used",
            order=Order((_since("last_used_at").desc(), "-pk")),
        ),
        Column("limits", "Limits", kind="wrap", room=True),
        Column("state", "State", phone="end"),
        created("Created", phone="", shown=False),
    ),
    sort="name",
    filters=(
        Filter("q", "Search", "search", "Search names"),
        Filter(
            "status",
            "State",
            hint="All keys",
            options=(("live", "Live"), ("revoked", "Revoked")),
        ),
    ),
    actions=(
        Action(
            "revoke",
            "Revoke",
            "revoked",
            "Clients that use one of them are rejected immediately. This cannot be undone.",
            do=revoke_key,
            refuses=_revoked,
            danger=True,
        ),
    ),
    acts_at="keys_selected",
    summary=True,
)


@never_cache
@require_http_methods(["GET", "POST"])
def keys(request: HtmxRequest) -> HttpResponse:
    """The list and the form. Only the answer to the form has the new key's text."""
    shown = _shown(request)
    if shown.part and request.method == "GET":
        return shown.render("inference/keys.html")
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
    if "made" in context:  # it is in the list, too
        shown = _shown(request)
    return shown.render("inference/keys.html", context, status)


def _shown(request: HtmxRequest) -> Shown[ApiToken]:
    shown = KEYS.asked(request, reverse("keys"))
    found = ApiToken.objects.filter(name__icontains=shown.query["q"])
    if (live := _LIVE.get(shown.query["status"])) is not None:
        found = found.filter(revoked_at__isnull=live)
    return shown.show(found)


@require_POST
def keys_selected(request: HtmxRequest, action: str) -> HttpResponse:
    """Do something with the keys that are selected."""
    return act(request, KEYS, action, ApiToken.objects.all(), reverse("keys"))


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
