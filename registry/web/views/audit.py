"""The audit log, newest first."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpResponse
from django.views.decorators.http import require_GET

from registry import audit
from registry.models import AuditEntry
from registry.web.htmx import HtmxRequest
from registry.web.lists import Column, Filter, Listing
from registry.web.lists.columns import WHEN
from registry.web.lists.filters import SPAN

ENTRIES = Listing[AuditEntry](
    noun="entry",
    plural="entries",
    columns=(
        WHEN,
        Column("label", "Action", "known", phone="end"),
        Column("subject", "What", "brief", kind="wrap strong", phone="line"),
        Column("detail", "Details", "known", kind="wrap", room=True),
        Column("who", "Who", "capfirst", kind="wrap", phone="line"),
    ),
    sort="when",
    filters=(
        Filter("q", "Search", "search", "Search models, aliases and keys"),
        Filter("who", "Who", "text", "Key, user or command"),
        Filter("action", "Action", hint="All actions", options=AuditEntry.Action.choices),
        SPAN,
    ),
    summary=True,
)


@require_GET
def audit_log(request: HtmxRequest) -> HttpResponse:
    shown = ENTRIES.asked(request)
    query, bounds = shown.query, shown.bounds
    found = audit.find(query["action"], query["who"], query["q"], bounds.since, bounds.until)
    return shown.show(found).render("registry/audit.html", {"days": settings.AUDIT_DAYS})
