"""The request log."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from inference.gateway import unlogged
from inference.models import ApiToken, InferenceRequest
from registry.web.htmx import HtmxRequest, partial
from registry.web.numbers import whole

PER_PAGE = 25
KEYS_OFFERED = 200
LATELY = 200
_ENDED = {
    InferenceRequest.Status.COMPLETED: "answered",
    InferenceRequest.Status.FAILED: "failed",
    InferenceRequest.Status.CANCELLED: "left by the client",
}
_FILTERS = ("q", "status", "api", "version", "key")


@require_GET
def requests(request: HtmxRequest) -> HttpResponse:
    """The log, newest first; `before` is an id, so that a page costs the same at any depth."""
    query = {name: request.GET.get(name, "").strip() for name in _FILTERS}
    before = whole(request.GET.get("before", ""))
    rows = InferenceRequest.objects.with_names().matching(
        q=query["q"],
        status=query["status"],
        api=query["api"],
        version=whole(query["version"]),
        token=whole(query["key"]),
    )
    rows = rows.order_by("-pk")
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows[: PER_PAGE + 1])
    context: dict[str, Any] = {
        # A search by text looks at every row, and is made once.
        "lately": lately(rows) if found and before is None and not query["q"] else None,
        "rows": found[:PER_PAGE],
        "older": found[PER_PAGE - 1].pk if len(found) > PER_PAGE else None,
        "before": "" if before is None else before,
        "query": query,
        "filtered": any(query.values()),
        "statuses": InferenceRequest.Status.choices,
        "apis": InferenceRequest.Api.choices,
        "keys": ApiToken.objects.all()[:KEYS_OFFERED],
        "keeps_texts": settings.LOG_PROMPTS,
        "waiting": unlogged.waiting(),
        "lost": unlogged.lost(),
    }
    template = partial(request, "inference/requests.html", "rows")
    return render(request, template, context)


def lately(rows: QuerySet[InferenceRequest]) -> dict[str, Any]:
    """How the newest LATELY of `rows` ended, in one sentence; and whether one of them failed."""
    newest = list(rows.order_by("-pk").values_list("status", "first_token_ms")[:LATELY])
    ended = Counter(status for status, _ in newest)
    waits = [wait for _, wait in newest if wait is not None]
    said = [f"{ended[status]} {words}" for status, words in _ENDED.items() if ended[status]]
    return {
        "sentence": f"Of the last {len(newest)}: {', '.join(said)}.",
        "wait_ms": median(waits) if waits else None,
        "tone": "warn" if ended[InferenceRequest.Status.FAILED] else "ok",
    }
