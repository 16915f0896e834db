"""Exceptions of Django, the database and the system that a client caused or can do something
about, as the `HubError` that says so. Every API and page asks here before it says 500."""

from __future__ import annotations

import errno
import shutil

import structlog
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError, DataError, InterfaceError, OperationalError, connection
from django.http import HttpRequest

from backends.base import first_line
from registry.commands import typed
from registry.errors import DiskFull, HubError, Invalid, TooLarge, Unavailable
from registry.storage import paths
from registry.storage.sizes import human

log = structlog.get_logger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT)
_DATABASE_FULL = (
    "database or disk is full",  # SQLite
    "No space left on device",  # PostgreSQL
    "could not extend file",
)
# Of SQLite, whose other operational errors ("no such table") are the hub's own.
_AWAY = ("database is locked", "unable to open database file", "disk I/O error")


def understood(request: HttpRequest, error: BaseException) -> HubError | None:
    """What to tell the client, or None when the error is the hub's own."""
    if isinstance(error, HubError):
        return error
    if isinstance(error, RequestDataTooBig):
        return too_large(request)
    if is_full(error):
        return DiskFull(_full(request))
    if away := database_away(error):
        return away
    if isinstance(error, OverflowError | DataError):
        return Invalid("A number or a text in the request is larger than the hub can keep.")
    return None


def note(request: HttpRequest, error: Exception, known: HubError | None) -> None:
    """Log what failed, with its traceback; an outage is one line a request."""
    if isinstance(known, Unavailable):
        log.warning("request_refused", path=request.path, reason=first_line(error))
    else:
        log.error("request_failed", path=request.path, exc_info=error)


def database_away(error: BaseException) -> Unavailable | None:
    """What to tell the client when the database is stopped, stalled or too busy, else None."""
    if not isinstance(error, OperationalError | InterfaceError):
        return None
    if connection.vendor == "sqlite" and not any(text in str(error) for text in _AWAY):
        return None
    return Unavailable("The database is not answering at the moment. Try again in a few seconds.")


def too_large(request: HttpRequest) -> TooLarge:
    """The body is larger than `settings.DATA_UPLOAD_MAX_MEMORY_SIZE`."""
    return TooLarge(
        f"The body is larger than {human(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)}; send less at a "
        "time, or a file (JSONL for examples) as a multipart upload."
    )


def is_full(error: BaseException | None) -> bool:
    """Whether the error, or what caused it, says that a disk is full."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if isinstance(error, DatabaseError) and any(text in str(error) for text in _DATABASE_FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def _full(request: HttpRequest) -> str:
    try:
        free = f"{human(shutil.disk_usage(paths.root()).free)} are free in {paths.root()}"
    except OSError as problem:
        free = f"{paths.root()} cannot be read ({problem.strerror})"
    sent = int(request.META.get("CONTENT_LENGTH") or 0)
    wanted = f", this request needs at least {human(sent)}" if sent else ""
    return (
        f"The disk is full: {free}{wanted}. Make room (`{typed('gc')}` removes leftovers) and try "
        "again."
    )
