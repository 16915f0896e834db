"""The audit log: who changed what, written in the transaction of the change.

Who acts is known where a request or a command begins (`acting`), and not passed through every
function down to the one that changes something.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import structlog
from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import Q, QuerySet

from registry.models import AuditEntry

Kind = AuditEntry.Actor
Action = AuditEntry.Action
Who = tuple[Kind, str]

log = structlog.get_logger(__name__)

_who: ContextVar[Callable[[], Who] | None] = ContextVar("who", default=None)


def act(who: Callable[[], Who]) -> None:
    """From here on, in this context, `who` says who acts; asked only when something is changed."""
    _who.set(who)


@contextmanager
def acting(kind: Kind, name: str = "") -> Iterator[None]:
    """Who acts within the block, such as a command."""
    token = _who.set(lambda: (kind, name))
    try:
        yield
    finally:
        _who.reset(token)


def audit(
    action: Action, subject: object, detail: str = "", using: str = DEFAULT_DB_ALIAS
) -> AuditEntry:
    """Record a change of `subject`. Call it in the transaction that makes the change: a change that
    is taken back is not recorded, and one that is not recorded is taken back. The log gets a line
    once it is committed."""
    asked = _who.get()
    kind, name = asked() if asked else (Kind.HUB, "")
    entry = AuditEntry.objects.using(using).create(
        actor_kind=kind,
        actor=name[:150],
        action=action,
        subject=str(subject)[:300],
        detail=detail,
        correlation_id=str(structlog.contextvars.get_contextvars().get("correlation_id", ""))[:64],
    )
    transaction.on_commit(lambda: _log(entry), using=using)
    return entry


def _log(entry: AuditEntry) -> None:
    said: dict[str, Any] = {"detail": entry.detail} if entry.detail else {}
    log.info("audit", action=entry.action, subject=entry.subject, who=entry.who, **said)


def find(
    action: str = "",
    actor: str = "",
    subject: str = "",
    since: datetime.datetime | None = None,
    until: datetime.datetime | None = None,
) -> QuerySet[AuditEntry]:
    """Entries, newest first. `action` is a whole one or its beginning (`key`), `actor` and
    `subject` a part of the text; the end of `since`–`until` is excluded."""
    found = AuditEntry.objects.all()
    if action:
        found = found.filter(Q(action=action) | Q(action__startswith=f"{action}."))
    if actor:
        found = found.filter(Q(actor__icontains=actor) | Q(actor_kind=actor))
    if subject:
        found = found.filter(subject__icontains=subject)
    if since:
        found = found.filter(created_at__gte=since)
    if until:
        found = found.filter(created_at__lt=until)
    return found


def prune(before: datetime.datetime) -> int:
    """Delete older entries; returns how many."""
    deleted, _ = AuditEntry.objects.filter(created_at__lt=before).delete()
    return deleted
