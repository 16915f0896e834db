"""The audit log over JSON."""

# No `from __future__ import annotations`: ninja resolves texts in the module of `paginate`, and fails.

import datetime
from typing import Annotated

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query, Router
from ninja.pagination import paginate
from pydantic import AwareDatetime

from registry import audit
from registry.models import AuditEntry
from registry.web.paging import LimitOffset
from registry.web.schemas.storage import AuditEntryOut

router = Router(tags=["audit"])


@router.get("/audit", response=list[AuditEntryOut], summary="The audit log, newest first")
@paginate(LimitOffset)
def audit_log(
    request: HttpRequest,
    action: Annotated[str, Query(description="`key.revoked`, or `key` for all of keys")] = "",
    who: Annotated[str, Query(description="Part of the name of a key, user or command")] = "",
    subject: Annotated[str, Query(description="Part of what it was done to")] = "",
    since: Annotated[AwareDatetime | None, Query(description="From this moment on")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Before this moment")] = None,
) -> QuerySet[AuditEntry]:
    """Who promoted, deleted, archived and restored, and made and revoked keys. Entries are kept for
    `HUB_AUDIT_DAYS` days."""
    return audit.find(action, who, subject, _utc(since), _utc(until))


def _utc(moment: datetime.datetime | None) -> datetime.datetime | None:
    return moment.astimezone(datetime.UTC) if moment else None
