"""Answers that the database refused to log, because its disk is full or it is away: kept in memory,
logged when it takes rows again, and counted where even that was too much. Only the one thread of
`database` adds rows, so nothing here is locked."""

from __future__ import annotations

from collections import deque

import structlog
from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from backends.base import first_line
from inference.gateway import metrics
from inference.models import InferenceRequest

log = structlog.get_logger(__name__)

MOST = 200
"""Rows kept; with their prompts they may take some megabytes."""

_waiting: deque[InferenceRequest] = deque()
_lost = 0


def waiting() -> int:
    """Answers that are not in the log yet."""
    return len(_waiting)


def lost() -> int:
    """Answers of this process that will never be in the log."""
    return _lost


def keep(row: InferenceRequest, error: DatabaseError | InterfaceError) -> None:
    """Remember a row that could not be added; the hub's log says which answer it is, and why."""
    global _lost
    row.created_at = timezone.now()
    _waiting.append(row)
    log.error(
        "request log not written", reason=first_line(error), waiting=len(_waiting), **_what(row)
    )
    if len(_waiting) > MOST:
        _lost += 1
        metrics.LOST.inc()
        log.error("request log lost an answer", lost=_lost, **_what(_waiting.popleft()))


def add_waiting() -> None:
    """Add what was kept, oldest first. Raises DatabaseError; what is refused again stays."""
    while _waiting:
        InferenceRequest.objects.add_all([_waiting[0]], _waiting[0].created_at)
        _waiting.popleft()


def _what(row: InferenceRequest) -> dict[str, object]:
    return {
        "request_id": row.request_id,
        "model": row.requested_model,
        "status": str(row.status),
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
    }
