"""Base models in the making: downloaded, quantized or fused. Their row tells how far they are, and
who died is retried.

The work runs where it is called: in a command, or in a child process that the web starts. The
row's heartbeat says that somebody is at it. What has been downloaded lies in storage/staging under
a name made of the source, so that a retry goes on from it; a conversion begins again, and what
its dead child left is removed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from registry.background import children
from registry.bases import downloads, registration
from registry.conversion import conversions
from registry.errors import Conflict, HubError, Invalid
from registry.models import BaseImport, BaseModel, Dataset, ModelVersion
from registry.storage import artifacts, paths

SILENCE = timedelta(seconds=120)
"""Longer than sealing a large file takes, during which nothing beats."""

_TELL_EVERY_S = 1.0
_DIED = {
    True: "The import's process ended before its work. Retry: it goes on from what has arrived.",
    False: "The conversion's process ended before its work, and nothing was kept. Is there enough "
    "memory? Retry: it begins again.",
}
"""By whether it is a download."""
_WAITING = "Waiting to start"
Source, Status = BaseModel.Source, BaseImport.Status


def start(repo: str, name: str = "", revision: str = "") -> BaseImport:
    """Make the row of an import from a hub id. Raises Invalid and Conflict."""
    repo = repo.strip()
    owner, slash, title = repo.partition("/")
    if not slash or not owner or not title or "/" in title or len(repo) > 200:
        raise Invalid(f"{repo!r} is no hub id; write it as OWNER/NAME.")
    name = name.strip() or title
    registration.check_name(name)
    fail_dead()
    # Two imports of one commit would write into one folder.
    if BaseImport.objects.filter(status=Status.RUNNING, origin__iexact=repo).exists():
        raise _running(repo)
    return _create(name=name, source=Source.HUB, origin=repo, revision=revision)


def start_quantize(
    base: BaseModel,
    bits: int = 4,
    group_size: int = 64,
    name: str = "",
    dataset: Dataset | None = None,
) -> BaseImport:
    """Make the row of a quantization. Raises Invalid and Conflict for what can be seen at once."""
    name, dataset = conversions.check_quantize(base, bits, group_size, name.strip(), dataset)
    fail_dead()
    return _create(
        name=name,
        source=Source.QUANTIZED,
        origin=f"{base.name}, {bits} bits in groups of {group_size}",
        derived_from=base,
        options={"bits": bits, "group_size": group_size, "dataset": dataset.pk},
    )


def start_fuse(version: ModelVersion, name: str = "") -> BaseImport:
    """Make the row of a version's fusion into a base model. Raises Invalid, Conflict, Damaged."""
    name, _ = conversions.check_fuse(version, name.strip())
    fail_dead()
    return _create(
        name=name,
        source=Source.FUSED,
        origin=str(version),
        derived_from=version.base_model,
        fused_version=version,
    )


def _create(**fields: Any) -> BaseImport:
    try:
        with transaction.atomic():
            return BaseImport.objects.create(stage=_WAITING, **fields)
    except IntegrityError:
        raise _running(fields["name"]) from None


def retry(row: BaseImport) -> BaseImport:
    """Take up a failed import again. Raises Conflict when it did not fail, or its name is taken."""
    fail_dead()
    registration.check_name(row.name)
    try:
        with transaction.atomic():
            changed = BaseImport.objects.filter(pk=row.pk, status=Status.FAILED).update(
                status=Status.RUNNING,
                stage=_WAITING,
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
    return sum(_bury(row, heartbeat_at=row.heartbeat_at) for row in silent)


def _bury(row: BaseImport, **still: Any) -> bool:
    """Fail a row whose process is gone, unless it is no longer as `still` says, and remove what a
    conversion left half made; whether it was failed."""
    download = row.source == Source.HUB
    running = BaseImport.objects.filter(pk=row.pk, status=Status.RUNNING, **still)
    if not running.update(status=Status.FAILED, error_message=_DIED[download]):
        return False
    _discard_leftovers(row)
    return True


def _discard_leftovers(row: BaseImport) -> None:
    for folder in paths.staging_dirs(_purpose(row)):
        artifacts.discard(folder)


def _purpose(row: BaseImport) -> str:
    return f"convert-{row.pk}"


def run(row: BaseImport, watch: Callable[[BaseImport], None] = lambda row: None) -> BaseModel:
    """Do the work of a running import; `watch` is called when the row has changed.

    Raises what went wrong after the row says it, too.
    """
    try:
        base = _make(row, _Teller(row, watch))
    except HubError as error:
        _end(row, status=Status.FAILED, error_message=str(error))
        raise
    except Exception:
        _end(row, status=Status.FAILED, error_message="The work failed; the hub's log says why.")
        raise
    _end(row, status=Status.COMPLETED, stage="Done", base_model=base)
    row.refresh_from_db()
    watch(row)
    return base


def launch(row: BaseImport) -> None:
    """Do the work in a child process, which outlives this one."""
    children.start(
        *("import_base", "--row", str(row.pk)),
        log=f"import-{row.pk}.log",
        died=lambda: _bury(row),
    )


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


def _make(row: BaseImport, tell: _Teller) -> BaseModel:
    if row.source == Source.HUB:
        return _download(row, tell)
    _discard_leftovers(row)
    if row.source == Source.FUSED and row.fused_version:
        return conversions.fuse_version(
            row.fused_version, name=row.name, tell=tell, purpose=_purpose(row)
        )
    dataset = Dataset.objects.filter(pk=row.options.get("dataset")).first()
    if row.source == Source.QUANTIZED and row.derived_from and dataset:
        return conversions.quantize_base(
            row.derived_from,
            row.options["bits"],
            row.options["group_size"],
            name=row.name,
            dataset=dataset,
            tell=tell,
            purpose=_purpose(row),
        )
    raise Invalid(f"What {row.name} was to be made from is no longer here.")


def _download(row: BaseImport, tell: _Teller) -> BaseModel:
    tell.stage("Asking the hub")
    model = downloads.find(row.origin, row.revision)
    row.revision, row.total_bytes = model.commit, model.total_bytes
    folder = _folder(model)
    tell.stage("Downloading")
    downloads.fetch(model, folder, tell.progress)
    row.done_bytes = model.total_bytes
    tell.stage("Checking the files")
    imported = registration.inspect(folder, tell.beat)
    tell.stage("Computing checksums")
    base = BaseModel(name=row.name, source=row.source, origin=row.origin, revision=model.commit)
    return registration.publish(base, imported, folder)


def _folder(model: downloads.HubRepo) -> Path:
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
