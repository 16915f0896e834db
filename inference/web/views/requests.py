"""The request log."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponse
from django.views.decorators.http import require_GET

from inference.gateway import unlogged
from inference.models import ApiToken, InferenceRequest
from registry.models import ModelVersion
from registry.web.htmx import HtmxRequest
from registry.web.lists import Column, Filter, Listing, Order
from registry.web.lists.columns import STATUS, WHEN
from registry.web.lists.filters import SPAN
from registry.web.numbers import whole

KEYS_OFFERED = 200
LATELY = 200
_ENDED = {
    InferenceRequest.Status.COMPLETED: "answered",
    InferenceRequest.Status.FAILED: "failed",
    InferenceRequest.Status.CANCELLED: "left by the client",
}


def _keys() -> list[tuple[int, ApiToken]]:
    return [(key.pk, key) for key in ApiToken.objects.all()[:KEYS_OFFERED]]


def _version(pk: str) -> str:
    found = ModelVersion.objects.select_related("model").filter(pk=whole(pk) or 0).first()
    return str(found or pk)


REQUESTS = Listing[InferenceRequest](
    noun="request",
    columns=(
        WHEN,
        Column("requested_model", "Requested model", kind="wrap", phone="line"),
        Column("answerer", "Answered by", kind="wrap", room=True),
        Column("api", "API", room=True),
        STATUS,
        Column("tokens", "Tokens", kind="n", room=True),
        Column("queue_ms", "Queued", "ms", kind="n", room=True, shown=False),
        Column(
            "first_token_ms",
            "First token",
            kind="n",
            order=Order(("-first_token_ms", "-pk"), needs="first_token_ms"),
        ),
        Column("tokens_per_second", "Tokens/s", "rate", kind="n", phone="line p-rate", room=True),
        Column(
            "total_ms",
            "Total",
            "ms",
            kind="n",
            phone="line",
            order=Order(("-total_ms", "-pk"), needs="total_ms"),
        ),
    ),
    sort="when",
    filters=(
        Filter("q", "Search", "search", "Search requested models"),
        Filter("status", "Status", hint="All statuses", options=InferenceRequest.Status.choices),
        Filter("api", "API", hint="All APIs", options=InferenceRequest.Api.choices),
        Filter("key", "Key", hint="All keys", options=_keys),
        SPAN,
        Filter("version", "Version", "hidden", words=_version),
    ),
    summary=True,
    heading=lambda row: f"Request to {row.requested_model}",
    defer=("prompt", "completion", "thoughts", "tools", "tool_calls", "params"),
    above=True,
)


@require_GET
def requests(request: HtmxRequest) -> HttpResponse:
    """The log, newest first."""
    shown = REQUESTS.asked(request)
    query = shown.query
    found = InferenceRequest.objects.with_names().matching(
        q=query["q"],
        status=query["status"],
        api=query["api"],
        version=whole(query["version"]),
        token=whole(query["key"]),
    )
    found = found.filter(**shown.bounds.of("created_at"))
    # A search by text looks at every row, and is made once.
    sums = shown.place.is_first and not query["q"] and shown.part != "drawer"
    context: dict[str, Any] = {
        "lately": lately(found) if sums else None,
        "keeps_texts": settings.LOG_PROMPTS,
        "waiting": unlogged.waiting(),
        "lost": unlogged.lost(),
    }
    return shown.show(found).render("inference/requests.html", context)


def lately(rows: QuerySet[InferenceRequest]) -> dict[str, Any] | None:
    """How the newest LATELY of `rows` ended, in one sentence; and whether one of them failed. None
    without rows."""
    ordered = rows.order_by("-created_at", "-pk")
    newest = list(ordered.values_list("status", "first_token_ms")[:LATELY])
    if not newest:
        return None
    ended = Counter(status for status, _ in newest)
    waits = [wait for _, wait in newest if wait is not None]
    said = [f"{ended[status]} {words}" for status, words in _ENDED.items() if ended[status]]
    return {
        "sentence": f"Of the last {len(newest)}: {', '.join(said)}.",
        "wait_ms": median(waits) if waits else None,
        "tone": "warn" if ended[InferenceRequest.Status.FAILED] else "ok",
    }
