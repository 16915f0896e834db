"""Imports of base models under way: their row tells how far they are, and who died is retried.

The work runs where it is called: in a command, or in a child process that the web starts. The
row's heartbeat says that somebody is at it; what has arrived lies in storage/staging under a name
made of the source, so that a retry goes on from it.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from registry import artifacts, bases, downloads, paths
from registry.errors import Conflict, HubError, Invalid
from registry.models import BaseImport, BaseModel

SILENCE = timedelta(seconds=120)
"""Longer than sealing a large file takes, during which nothing beats."""

_TELL_EVERY_S = 1.0
_DIED = "The import's process ended before its work. Retry: it goes on from what has arrived."
Status = BaseImport.Status


def start(repo: str, name: str = "", revision: str = "") -> BaseImport:
    """Make the row of an import from a hub id. Raises Invalid and Conflict."""
    repo = repo.strip()
    owner, slash, title = repo.partition("/")
    if not slash or not owner or not title or "/" in title or len(repo) > 200:
        raise Invalid(f"{repo!r} is no hub id; write it as OWNER/NAME.")
    name = name.strip() or title
    bases.check_name(name)
    fail_dead()
    # Two imports of one commit would write into one folder.
    if BaseImport.objects.filter(status=Status.RUNNING, origin__iexact=repo).exists():
        raise _running(repo)
    try:
        with transaction.atomic():
            return BaseImport.objects.create(
                name=name,
                source=BaseModel.Source.HUB,
                origin=repo,
                revision=revision,
                stage="Waiting to start",
            )
    except IntegrityError:
        raise _running(name) from None


def retry(row: BaseImport) -> BaseImport:
    """Take up a failed import again. Raises Conflict when it did not fail, or its name is taken."""
    fail_dead()
    bases.check_name(row.name)
    try:
        with transaction.atomic():
            changed = BaseImport.objects.filter(pk=row.pk, status=Status.FAILED).update(
                status=Status.RUNNING,
                stage="Waiting to start",
                error_message="",
                heartbeat_at=timezone.now(),
            )
    except IntegrityError:
        raise _running(row.name) from None
    if not changed:
        raise Conflict(f"The import of {row.name} did not fail, so there is nothing to retry.")
    row.refresh_from_db()
    return row


def fail_dead() -> int:
    """Mark the imports whose heartbeat is silent as failed; how many there were."""
    silent = BaseImport.objects.filter(
        status=Status.RUNNING, heartbeat_at__lt=timezone.now() - SILENCE
    )
    return silent.update(status=Status.FAILED, error_message=_DIED)


def run(row: BaseImport, watch: Callable[[BaseImport], None] = lambda row: None) -> BaseModel:
    """Do the work of a running import; `watch` is called when the row has changed.

    Raises what went wrong after the row says it, too.
    """
    try:
        base = _import(row, _Teller(row, watch))
    except HubError as error:
        _end(row, status=Status.FAILED, error_message=str(error))
        raise
    except Exception:
        _end(row, status=Status.FAILED, error_message="The import failed; the hub's log says why.")
        raise
    _end(row, status=Status.COMPLETED, stage="Done", base_model=base)
    row.refresh_from_db()
    watch(row)
    return base


def launch(row: BaseImport) -> None:
    """Do the work in a child process of its own, which outlives this one; its end is watched, so
    that a killed child is told at once and not only by its silence."""
    log = paths.run_dir() / f"import-{row.pk}.log"
    command = [sys.executable, str(Path(settings.BASE_DIR) / "manage.py"), "import_base"]
    with log.open("ab") as output:
        child = subprocess.Popen(
            [*command, "--row", str(row.pk)],
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    threading.Thread(target=_await, args=(child, row.pk), daemon=True).start()


def _await(child: subprocess.Popen[bytes], pk: int) -> None:
    from django.db import connection

    try:
        if child.wait():
            BaseImport.objects.filter(pk=pk, status=Status.RUNNING).update(
                status=Status.FAILED, error_message=_DIED
            )
    finally:
        connection.close()


class _Teller:
    """Writes progress to the row, at most once a second; every write is a heartbeat."""

    def __init__(self, row: BaseImport, watch: Callable[[BaseImport], None]) -> None:
        self.row, self.watch, self.told = row, watch, 0.0

    def stage(self, text: str) -> None:
        self.row.stage = text
        self._write()

    def progress(self, done: int) -> None:
        self.row.done_bytes = done
        self.beat()

    def beat(self) -> None:
        if time.monotonic() - self.told >= _TELL_EVERY_S:
            self._write()

    def _write(self) -> None:
        self.told = time.monotonic()
        row = self.row
        changed = BaseImport.objects.filter(pk=row.pk, status=Status.RUNNING).update(
            stage=row.stage,
            done_bytes=row.done_bytes,
            total_bytes=row.total_bytes,
            revision=row.revision,
            heartbeat_at=timezone.now(),
        )
        if not changed:
            raise Conflict(f"The import of {row.name} was given up meanwhile.")
        self.watch(row)


def _import(row: BaseImport, tell: _Teller) -> BaseModel:
    tell.stage("Asking the hub")
    model = downloads.find(row.origin, row.revision)
    row.revision, row.total_bytes = model.commit, model.total_bytes
    folder = _folder(model)
    tell.stage("Downloading")
    downloads.fetch(model, folder, tell.progress)
    row.done_bytes = model.total_bytes
    tell.stage("Checking the files")
    imported = bases.inspect(folder, tell.beat)
    tell.stage("Computing checksums")
    base = BaseModel(name=row.name, source=row.source, origin=row.origin, revision=model.commit)
    return bases.publish(base, imported, folder)


def _folder(model: downloads.HubModel) -> Path:
    """Where the files of one commit gather, whichever import wants them."""
    key = hashlib.sha256(f"{downloads.endpoint()} {model.repo} {model.commit}".encode()).hexdigest()
    folder = paths.download_dir(key[:32])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / artifacts.MANIFEST).unlink(missing_ok=True)  # of a run that was killed after sealing
    return folder


def _end(row: BaseImport, **changes: object) -> None:
    BaseImport.objects.filter(pk=row.pk, status=Status.RUNNING).update(
        heartbeat_at=timezone.now(), done_bytes=row.done_bytes, **changes
    )


def _running(name: str) -> Conflict:
    return Conflict(f"An import of {name} is running already.")
