"""The request log."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from inference.models import ApiToken, InferenceRequest
from registry.web.htmx import HtmxRequest, partial

PER_PAGE = 25
KEYS_OFFERED = 200
_FILTERS = ("q", "status", "api", "version", "key")


@require_GET
def requests(request: HtmxRequest) -> HttpResponse:
    """The log, newest first; `before` is an id, so that a page costs the same at any depth."""
    query = {name: request.GET.get(name, "").strip() for name in _FILTERS}
    before = request.GET.get("before", "")
    version, key = query["version"], query["key"]
    rows = InferenceRequest.objects.with_names().matching(
        q=query["q"],
        status=query["status"],
        api=query["api"],
        version=int(version) if version.isdigit() else None,
        token=int(key) if key.isdigit() else None,
    )
    rows = rows.order_by("-pk")
    if before.isdigit():
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: PER_PAGE + 1])
    context: dict[str, Any] = {
        "rows": found[:PER_PAGE],
        "older": found[PER_PAGE - 1].pk if len(found) > PER_PAGE else None,
        "before": before,
        "query": query,
        "filtered": any(query.values()),
        "statuses": InferenceRequest.Status.choices,
        "apis": InferenceRequest.Api.choices,
        "keys": ApiToken.objects.all()[:KEYS_OFFERED],
        "keeps_texts": settings.LOG_PROMPTS,
    }
    template = partial(request, "inference/requests.html", "rows")
    return render(request, template, context)
