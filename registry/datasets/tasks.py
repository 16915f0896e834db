"""Large data sets, registered and examined by a child of the web process.

What is small is done at once. Anything else is a row that tells how far its work is, as the
imports of base models do: the row's heartbeat says that somebody is at it, what a killed child
leaves can be retried, and the uploaded files stay for that in `storage/uploads`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from registry.background import children, work
from registry.datasets import hub_files, snapshots, uploads
from registry.datasets.examination import examine
from registry.datasets.examples import BadExamples
from registry.errors import Conflict, HubError, NotFound, Unavailable
from registry.models import BaseModel, Dataset, DatasetReport, DatasetTask
from registry.storage import paths

AT_ONCE = 4 << 20
"""Bytes that are read while a person waits: a second or two."""

SILENCE = timedelta(seconds=120)
"""Longer than hashing a large file takes, during which nothing beats."""

_DIED = "The work's process ended before its work, and nothing was kept. Retry: it begins again."
Kind, Status = DatasetTask.Kind, DatasetTask.Status


def start_upload(
    name: str,
    files: Sequence[UploadedFile[bytes]],
    description: str = "",
    columns: Mapping[str, str] | None = None,
) -> Dataset | DatasetTask:
    """Register uploaded files: at once when they are small, else the task that does.

    Raises what `register_dataset` raises.
    """
    snapshots.check(name, columns)
    if sum(file.size or 0 for file in files) <= AT_ONCE:
        return uploads.register_upload(name, files, description, columns)
    folder, source = uploads.save(files)
    try:
        task = _create(
            kind=Kind.REGISTER,
            name=name,
            source=uploads.origin_of(files),
            options={
                "upload": folder.name,
                "file": source.name if source != folder else "",
                "description": description,
                "columns": dict(columns or {}),
            },
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _launch(task)
    return task


def start_hub(
    name: str, hub_id: str, description: str = "", columns: Mapping[str, str] | None = None
) -> DatasetTask:
    """The task that brings and registers `hub:OWNER/NAME[@REVISION]`. Raises Invalid, Conflict."""
    snapshots.check(name, columns)
    hub_files.check_id(hub_id)
    options = {"description": description, "columns": dict(columns or {})}
    task = _create(kind=Kind.REGISTER, name=name, source=hub_id, options=options)
    _launch(task)
    return task


def start_examine(
    dataset: Dataset, base: BaseModel, max_seq_length: int
) -> DatasetReport | DatasetTask:
    """Examine a data set: at once when it is small, else the task that does. Raises what `examine`
    raises, and Conflict."""
    if dataset.size_bytes <= AT_ONCE:
        return examine(dataset, base, max_seq_length)
    task = _create(
        kind=Kind.EXAMINE,
        name=dataset.name,
        source=f"{base.name}, {max_seq_length} tokens",
        dataset=dataset,
        options={"base": base.pk, "max_seq_length": max_seq_length},
    )
    _launch(task)
    return task


def retry(task: DatasetTask) -> DatasetTask:
    """Do a failed task again. Raises Conflict when it did not fail or its files are gone."""
    fail_dead()
    if not can_retry(task):
        raise Conflict(f"{task} cannot be retried; begin it anew.")
    try:
        with transaction.atomic():
            taken = work.take_up(task, examples=0)
    except IntegrityError:
        raise _running(task.name) from None
    if not taken:
        raise Conflict(f"{task} did not fail, so there is nothing to retry.")
    _launch(task)
    return task


def can_retry(task: DatasetTask) -> bool:
    """Whether what a failed task worked on is still here. Wrong examples stay wrong."""
    if task.status != Status.FAILED or task.problems:
        return False
    upload = task.options.get("upload")
    return upload is None or paths.upload_dir(upload).is_dir()


def fail_dead() -> int:
    """Mark the tasks whose heartbeat is silent as failed; how many there were."""
    silent = work.silent(DatasetTask.objects.all(), SILENCE)
    if not silent.exists():  # a page that only looks takes no lock
        return 0
    return silent.update(status=Status.FAILED, error_message=_DIED)


def in_sight() -> QuerySet[DatasetTask]:
    """What a list of data sets shows beside them: running tasks, and those that failed lately."""
    fail_dead()
    return work.in_sight(DatasetTask.objects.all())


def run(task: DatasetTask) -> Dataset | DatasetReport:
    """Do the work of a running task. Raises what went wrong after the row says it, too."""
    tell = _Teller(task)
    made: Dataset | DatasetReport
    try:
        made = _register(task, tell) if task.kind == Kind.REGISTER else _examine(task, tell)
    except BadExamples as error:
        work.end(task, status=Status.FAILED, error_message=str(error), problems=error.problems)
        _discard(task)
        raise
    except HubError as error:
        work.end(task, status=Status.FAILED, error_message=str(error))
        if not isinstance(error, Unavailable):
            _discard(task)
        raise
    except Exception:
        work.end(
            task, status=Status.FAILED, error_message="The work failed; the hub's log says why."
        )
        raise
    result = {"dataset": made} if isinstance(made, Dataset) else {"report": made}
    work.end(
        task, status=Status.COMPLETED, stage="Done", share=1.0, examples=task.examples, **result
    )
    _discard(task)
    return made


def _register(task: DatasetTask, tell: _Teller) -> Dataset:
    options = task.options
    upload, columns = options.get("upload"), options["columns"]
    if upload is None:
        return snapshots.register_hub_dataset(
            task.name,
            task.source,
            options["description"],
            columns=columns,
            progress=tell.progress,
            stage=tell.stage,
            folder=_download_dir(task),
        )
    return snapshots.register_dataset(
        task.name,
        paths.upload_dir(upload) / options["file"],
        options["description"],
        origin=task.source,
        columns=columns,
        progress=tell.progress,
        stage=tell.stage,
    )


def _examine(task: DatasetTask, tell: _Teller) -> DatasetReport:
    base = BaseModel.objects.filter(pk=task.options["base"]).first()
    if base is None or task.dataset is None:
        raise NotFound("The base model is no longer here; examine for another one.")
    return examine(task.dataset, base, task.options["max_seq_length"], tell=tell)


def _download_dir(task: DatasetTask) -> Path:
    """Where a hub's files gather: a retry of the same task goes on from it."""
    return paths.download_dir(f"{task.pk:032x}")


class _Teller(work.Teller):
    """Also counts the examples."""

    columns = ("stage", "share", "examples")

    def __init__(self, task: DatasetTask) -> None:
        super().__init__(task)
        self.task = task

    def progress(self, examples: int, share: float) -> None:
        self.task.examples = max(examples, self.task.examples)
        self.part(share)


def _create(**fields: Any) -> DatasetTask:
    fail_dead()
    try:
        with transaction.atomic():
            return DatasetTask.objects.create(stage=work.WAITING, **fields)
    except IntegrityError:
        raise _running(fields["name"]) from None


def _launch(task: DatasetTask) -> None:
    children.start(
        *("run_dataset_task", str(task.pk)),
        log=f"dataset-{task.pk}.log",
        died=lambda: work.end(task, status=Status.FAILED, error_message=_DIED),
    )


def _discard(task: DatasetTask) -> None:
    """Remove the uploaded files of a task that is over."""
    if upload := task.options.get("upload"):
        shutil.rmtree(paths.upload_dir(upload), ignore_errors=True)


def _running(name: str) -> Conflict:
    return Conflict(f"{name} is being worked on already; wait until that is done.")
