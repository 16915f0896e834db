"""Long work: the web process adds a row and launches a child, which does the work and reports to
the row. A child that is killed or goes silent leaves a failed row, which can be retried."""

from __future__ import annotations

import datetime
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError, transaction
from django.utils import timezone

from registry import traces
from registry.background import children
from registry.background.progress import SILENT, Progress
from registry.errors import Conflict, Damaged, HubError, Invalid
from registry.models import BaseImport
from registry.models.bases import RESUMABLE
from registry.models.work import PAUSED, WAITING, Work
from registry.storage import artifacts, paths

_EVERY_S = 0.2


def add[W: Work](row: W) -> W:
    """Save a row of work that this process or a child is about to do. Raises Conflict when work of
    the same kind and name is running."""
    type(row).objects.fail_silent()
    row.stage = WAITING
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError:
        raise already_running(row) from None
    return row


def launch[W: Work](row: W) -> W:
    """Do the work of a running row in a child process, which outlives this one."""

    def died() -> None:
        if row.fail(row.lost):
            discard_staging(row)

    children.start(*row.command, str(row.pk), log=f"{row.label}-{row.pk}.log", died=died)
    return row


def retry[W: Work](row: W) -> W:
    """Launch failed or paused work again. Raises Conflict when it is neither, when what it worked on
    is gone, and when other work of its kind and name is running."""
    type(row).objects.fail_silent()
    row.refresh_from_db()
    if not (row.has_failed or row.is_paused):
        raise Conflict(f"{row} did not fail, so there is nothing to retry.")
    if not can_retry(row):
        raise Conflict(f"{row} cannot be retried; start it again from the beginning.")
    try:
        with transaction.atomic():
            taken = row.take_up()
    except IntegrityError:
        raise already_running(row) from None
    if not taken:  # another request was faster
        raise Conflict(f"{row} did not fail, so there is nothing to retry.")
    return launch(row)


def can_retry(row: Work) -> bool:
    """Whether a failed row's upload is still here; it is removed when no retry can help."""
    return row.is_retryable and (not row.upload or paths.upload_dir(row.upload).is_dir())


def already_running(row: Work) -> Conflict:
    return Conflict(f"{row} is already running; wait until it is done.")


@contextmanager
def doing(row: Work, watch: Progress = SILENT) -> Iterator[Progress]:
    """Around the work of a running row; the body calls `row.complete`. `watch` gets the
    same reports as the row. What the body raises is written to the row, too."""
    discard_staging(row)  # of a process that was killed
    parent = traces.current() or traces.inherited()
    try:
        with traces.span(row.label, parent=parent, attributes={"hub.task": row.pk}):
            yield _Reporting(row, watch)
    except HubError as error:
        row.fail(str(error))
        if isinstance(error, Damaged | Invalid):
            discard_upload(row)
        raise
    except Exception:
        row.fail("Internal error. Details are in the hub's log.")
        raise
    discard_upload(row)


class _Reporting(Progress):
    """Writes to the row, at most five times a second. Raises Conflict when it is no longer
    running: its process was taken for lost."""

    def __init__(self, row: Work, watch: Progress) -> None:
        self._row, self._watch, self._written = row, watch, 0.0

    def stage(self, text: str) -> None:
        self._row.stage, self._row.share = text, 0.0
        for column in self._row.figures:
            setattr(self._row, column, None)
        self._write()
        self._watch.stage(text)

    def part(self, share: float, **counts: int) -> None:
        self._row.share = share
        for column in self._row.counts:
            if column in counts:
                setattr(self._row, column, max(getattr(self._row, column), counts[column]))
        for column in self._row.figures:
            setattr(self._row, column, counts.get(column))
        self.beat()
        self._watch.part(share, **counts)

    def beat(self) -> None:
        if time.monotonic() - self._written >= _EVERY_S:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        columns = ("stage", "share", *self._row.counts, *self._row.figures)
        if not self._row.write(**{name: getattr(self._row, name) for name in columns}):
            self._row.refresh_from_db(fields=["status"])
            raise Conflict(self._row.given_up)


def staging(row: Work) -> str:
    """The purpose of its folders in staging (see `paths.staging_dir`)."""
    return f"{row.label}-{row.pk}"


def discard_staging(row: Work) -> None:
    """Remove what a killed process left half made. Not done for one that is only silent: the
    machine may have slept, and the process still works with it."""
    for folder in paths.staging_dirs(staging(row)):
        artifacts.discard(folder)


def discard_upload(row: Work) -> None:
    if row.upload:
        shutil.rmtree(paths.upload_dir(row.upload), ignore_errors=True)


def kinds() -> list[type[Work]]:
    """Every kind of work, but those whose app looks after its rows itself."""
    return [kind for kind in Work.__subclasses__() if not kind.kept_apart]


def running() -> Work | None:
    """A piece of work whose process writes to the database now, whoever started it."""
    for kind in kinds():
        kind.objects.fail_silent()
        if row := kind.objects.filter(status=Work.Status.RUNNING).first():
            return row
    return None


def prune(before: datetime.datetime) -> int:
    """Delete rows of work that ended before then; returns how many. What they made stays. A failed
    import of a base stays as long as its download, which only its retry can continue."""
    deleted = 0
    for kind in kinds():
        over = kind.objects.exclude(status=Work.Status.RUNNING).filter(heartbeat_at__lt=before)
        if kind is BaseImport:
            lately = timezone.now() - RESUMABLE
            stopped = (Work.Status.FAILED, PAUSED)
            over = over.exclude(status__in=stopped, heartbeat_at__gt=lately)
        deleted += over.delete()[0]
    return deleted
