"""The audit log, newest first."""

from __future__ import annotations

import datetime
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.dateparse import parse_date
from django.views.decorators.http import require_GET

from registry import audit
from registry.models import AuditEntry
from registry.web.htmx import HtmxRequest, partial
from registry.web.numbers import whole

PER_PAGE = 25
_FILTERS = ("q", "who", "action", "since")


@require_GET
def audit_log(request: HtmxRequest) -> HttpResponse:
    """`before` is an id, so that a page costs the same at any depth."""
    query = {name: request.GET.get(name, "").strip() for name in _FILTERS}
    before = whole(request.GET.get("before", ""))
    rows = audit.find(query["action"], query["who"], query["q"], _start(query["since"]))
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows[: PER_PAGE + 1])
    context: dict[str, Any] = {
        "rows": found[:PER_PAGE],
        "older": found[PER_PAGE - 1].pk if len(found) > PER_PAGE else None,
        "before": "" if before is None else before,
        "query": query,
        "filtered": any(query.values()),
        "actions": AuditEntry.Action.choices,
        "days": settings.AUDIT_DAYS,
    }
    return render(request, partial(request, "registry/audit.html", "rows"), context)


def _start(day: str) -> datetime.datetime | None:
    """The beginning of that day in UTC; None for what is no day."""
    try:
        found = parse_date(day)
    except ValueError:  # 30 February
        return None
    return datetime.datetime.combine(found, datetime.time(), datetime.UTC) if found else None
