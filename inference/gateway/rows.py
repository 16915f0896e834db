"""Rows of the request log on their way into the database. Answers of one batch end together: what has ended
while another row is added goes into the next transaction together."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context, copy_context

from django.db import DatabaseError, InterfaceError

from inference.gateway import unlogged
from inference.gateway.database import in_thread, reconnecting
from inference.models import InferenceRequest

_Ended = tuple[InferenceRequest, Context]  # that of its request, for what is said of it


async def add(row: InferenceRequest) -> None:
    """Returns once it is in the database, or kept for later where that refuses."""
    await _add_ended((row, copy_context()))


@in_thread
def _add_ended(ended: Sequence[_Ended]) -> list[Exception | None]:
    if len(ended) > 1:
        # Where that fails, each is added by itself, which says what is wrong with which.
        with suppress(Exception):
            reconnecting(InferenceRequest.objects.add_all, [row for row, _ in ended])
    failures = [context.run(_add_one, row) for row, context in ended]
    if unlogged.waiting() and any(row.added for row, _ in ended):
        with suppress(DatabaseError, InterfaceError):
            reconnecting(unlogged.add_waiting)
    return failures


def _add_one(row: InferenceRequest) -> Exception | None:
    """Unless it was added with others. Returns what nobody foresaw."""
    try:
        if not row.added:
            reconnecting(InferenceRequest.objects.add_all, [row])
    except (DatabaseError, InterfaceError) as error:
        unlogged.keep(row, error)
    except Exception as error:
        return error
    return None
