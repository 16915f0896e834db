"""Rows of the request log on their way into the database. Answers of one batch end together: what has ended
while another row is added goes into the next transaction together."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from contextvars import Context, copy_context

from django.db import DatabaseError, InterfaceError

from inference.gateway import unlogged
from inference.gateway.database import in_thread, reconnecting
from inference.models import InferenceRequest

_ended: deque[tuple[InferenceRequest, Context]] = deque()


async def add(row: InferenceRequest) -> None:
    """Returns once it is in the database, or kept for later where that refuses."""
    _ended.append((row, copy_context()))  # of its request, for what is said of it
    await in_thread(_add_ended)()


def _add_ended() -> None:
    """Maybe none: earlier calls take what later ones were made for. In the one thread of `database`."""
    rows: list[tuple[InferenceRequest, Context]] = []
    while _ended:
        rows.append(_ended.popleft())
    if len(rows) > 1:
        # Where that fails, each is added by itself, which says what is wrong with which.
        with suppress(Exception):
            reconnecting(InferenceRequest.objects.add_all, [row for row, _ in rows])
    failures: list[Exception] = []
    for row, context in rows:
        if row.pk is None:
            try:
                context.run(_add_one, row)
            except Exception as error:
                failures.append(error)
    if failures:
        raise failures[0]
    if unlogged.waiting() and any(row.pk is not None for row, _ in rows):
        with suppress(DatabaseError, InterfaceError):
            reconnecting(unlogged.add_waiting)


def _add_one(row: InferenceRequest) -> None:
    try:
        reconnecting(row.add)
    except (DatabaseError, InterfaceError) as error:
        unlogged.keep(row, error)
