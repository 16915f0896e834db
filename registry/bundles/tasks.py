"""Large bundles, imported by a child of the web process.

What is small is taken at once. Anything else is a row that tells how far its work is, as large
data sets do. The row is completed in the transaction that makes the version: whatever is killed
and tried again, a bundle becomes one version or none.
"""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from registry.background import children, work
from registry.bundles import reader, uploads
from registry.errors import Conflict, Damaged, HubError, Invalid
from registry.models import BundleImport, ModelVersion
from registry.storage import artifacts, paths

AT_ONCE = 32 << 20
"""Bytes that are verified and written while a person waits: a second."""

SILENCE = timedelta(seconds=300)
"""Longer than the largest file takes to be hashed and synced, during which nothing beats."""

_DIED = "The import's process ended before its work, and nothing was kept. Retry: it begins again."
Status = BundleImport.Status


def start_upload(
    file: UploadedFile[bytes], model_name: str = "", base_name: str = "", number: str = ""
) -> ModelVersion | BundleImport:
    """Take an uploaded bundle: at once when it is small, else the task that does.

    Raises what `import_bundle_upload` raises, as far as a bundle's beginning tells, and Conflict
    when the same version is on its way to the same model already.
    """
    if (file.size or 0) <= AT_ONCE:
        return uploads.import_bundle_upload(file, model_name, base_name, number)
    with uploads.blaming_the_client(), uploads.from_its_beginning(file) as content:
        model, own = reader.foresee(content, model_name, base_name, number)
    folder = uploads.save_bundle(file)
    try:
        task = _create(
            name=f"{model}@{own}",
            source=(file.name or "")[:500],
            options={
                "upload": folder.name,
                "model": model_name,
                "base": base_name,
                "number": number,
            },
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _launch(task)
    return task


def run(task: BundleImport) -> ModelVersion:
    """Do the work of a running task. Raises what went wrong after the row says it, too."""
    _discard_leftovers(task)
    options = task.options

    def kept(version: ModelVersion) -> None:
        done: dict[str, Any] = {"stage": "Done", "share": 1.0, "version": version}
        if not work.end(task, status=Status.COMPLETED, **done):
            raise Conflict(f"{task} was given up meanwhile.")

    try:
        with (paths.upload_dir(options["upload"]) / uploads.BUNDLE).open("rb") as file:
            version = reader.take_bundle(
                file,
                options["model"],
                options["base"],
                options["number"],
                tell=work.Teller(task),
                purpose=_purpose(task),
                kept=kept,
            )
    except HubError as error:
        damage = " Nothing was kept; export the bundle again." if isinstance(error, Damaged) else ""
        work.end(task, status=Status.FAILED, error_message=f"{error}{damage}")
        if isinstance(error, Damaged | Invalid):
            _discard_upload(task)
        raise
    except Exception:
        said = "The import failed, and nothing was kept; the hub's log says why."
        work.end(task, status=Status.FAILED, error_message=said)
        raise
    _discard_upload(task)
    return version


def retry(task: BundleImport) -> BundleImport:
    """Do a failed task again. Raises Conflict when it did not fail or its file is gone."""
    fail_dead()
    task.refresh_from_db()
    if not can_retry(task):
        raise Conflict(f"{task} cannot be retried; send the bundle again.")
    try:
        with transaction.atomic():
            taken = work.take_up(task)
    except IntegrityError:
        raise _running(task.name) from None
    if not taken:
        raise Conflict(f"{task} did not fail, so there is nothing to retry.")
    _launch(task)
    return task


def can_retry(task: BundleImport) -> bool:
    """Whether the bundle of a failed task is still here. A damaged one stays damaged."""
    return task.status == Status.FAILED and paths.upload_dir(task.options["upload"]).is_dir()


def fail_dead() -> int:
    """Mark the tasks whose heartbeat is silent as failed; how many there were.

    What they unpacked stays for a retry or `gc` to remove: after the machine has slept, a process
    is silent that still works with it.
    """
    silent = work.silent(BundleImport.objects.all(), SILENCE)
    return sum(_fail(task) for task in silent)


def in_sight() -> QuerySet[BundleImport]:
    """What a list shows: running tasks, and those that failed lately."""
    fail_dead()
    return work.in_sight(BundleImport.objects.all())


def _fail(task: BundleImport) -> bool:
    """Whether it still ran."""
    return work.end(task, status=Status.FAILED, error_message=_DIED)


def _bury(task: BundleImport) -> None:
    """Fail a task whose process has ended, and remove what it left half unpacked."""
    if _fail(task):
        _discard_leftovers(task)


def _create(**fields: Any) -> BundleImport:
    fail_dead()
    try:
        with transaction.atomic():
            return BundleImport.objects.create(stage=work.WAITING, **fields)
    except IntegrityError:
        raise _running(fields["name"]) from None


def _launch(task: BundleImport) -> None:
    children.start(
        *("run_bundle_import", str(task.pk)),
        log=f"bundle-{task.pk}.log",
        died=lambda: _bury(task),
    )


def _purpose(task: BundleImport) -> str:
    return f"bundle-{task.pk}"


def _discard_leftovers(task: BundleImport) -> None:
    for folder in paths.staging_dirs(_purpose(task)):
        artifacts.discard(folder)


def _discard_upload(task: BundleImport) -> None:
    shutil.rmtree(paths.upload_dir(task.options["upload"]), ignore_errors=True)


def _running(name: str) -> Conflict:
    return Conflict(f"{name} is being imported already; wait until that is done.")
