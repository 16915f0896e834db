"""Data sets registered, examined and fixed by a child of the web process.

What is small is done at once, but the check of every row, whose libraries are large. Anything else is
a row of `DatasetTask`; uploaded files stay in `storage/uploads` until it is done, so that a failed
one can be retried.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence

from django.core.files.uploadedfile import UploadedFile

from registry.background import work
from registry.background.progress import Progress
from registry.datasets import hub_files, snapshots, uploads
from registry.datasets.examination import examine, find_report
from registry.datasets.examples import BadExamples
from registry.datasets.files.rows import packing
from registry.datasets.workbench import findings, fixes
from registry.datasets.workbench.fixes import Fix
from registry.errors import Conflict, NotFound
from registry.models import BaseModel, Dataset, DatasetReport, DatasetTask
from registry.storage import paths

AT_ONCE = 4 << 20
"""Bytes that are read while a person waits: a second or two."""

_UNPACKS = 10  # times its size, for a text

Kind = DatasetTask.Kind


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
    if sum(map(_size, files)) <= AT_ONCE:
        return uploads.register_upload(name, files, description, columns)
    saved = uploads.save(files)
    task = DatasetTask(
        kind=Kind.REGISTER,
        name=name,
        source=uploads.origin_of(files),
        options={
            "upload": saved.folder.name,
            "file": saved.source.name if saved.source != saved.folder else "",
            "names": saved.names,
            "description": description,
            "columns": dict(columns or {}),
        },
    )
    try:
        work.add(task)
    except BaseException:
        shutil.rmtree(saved.folder, ignore_errors=True)
        raise
    return work.launch(task)


def _size(file: UploadedFile[bytes]) -> int:
    """Bytes to read: of a compressed file, those that it may well unpack to."""
    return (file.size or 0) * (_UNPACKS if packing(file.name or "") else 1)


def start_hub(
    name: str, hub_id: str, description: str = "", columns: Mapping[str, str] | None = None
) -> DatasetTask:
    """The task that downloads and registers `hub:OWNER/NAME[@REVISION]`. Raises Invalid and
    Conflict."""
    snapshots.check(name, columns)
    hub_files.check_id(hub_id)
    options = {"description": description, "columns": dict(columns or {})}
    task = DatasetTask(kind=Kind.REGISTER, name=name, source=hub_id, options=options)
    return work.launch(work.add(task))


def start_examine(
    dataset: Dataset, base: BaseModel, max_seq_length: int
) -> DatasetReport | DatasetTask:
    """Examine a data set: at once when it is small, else the task that does. Raises what `examine`
    raises, and Conflict."""
    if dataset.size_bytes <= AT_ONCE:
        return examine(dataset, base, max_seq_length)
    return work.launch(work.add(_examining(Kind.EXAMINE, dataset, base, max_seq_length)))


def start_rows(dataset: Dataset, base: BaseModel, max_seq_length: int) -> DatasetTask:
    """Check every row of a data set for training on `base`, in a task; it is examined, too, unless
    it is already. Raises Conflict."""
    return work.launch(work.add(_examining(Kind.ROWS, dataset, base, max_seq_length)))


def _examining(kind: Kind, dataset: Dataset, base: BaseModel, max_seq_length: int) -> DatasetTask:
    return DatasetTask(
        kind=kind,
        name=dataset.name,
        source=f"{base.name}, {max_seq_length} tokens",
        dataset=dataset,
        options={"base": base.pk, "max_seq_length": max_seq_length},
    )


def start_fix(dataset: Dataset, fix: Fix) -> Dataset | DatasetTask:
    """Fix rows of a data set whose rows are checked: the next revision, made at once when the data
    set is small, else the task that makes it. The next revision's rows are checked, too.

    Raises what `fixes.apply` raises, and Conflict when the rows are not checked.
    """
    fix, found = fixes.check(dataset, fix), checked(dataset)
    if dataset.size_bytes <= AT_ONCE:
        made = fixes.apply(found, fix)
        with contextlib.suppress(Conflict):  # its rows can still be checked from its page
            start_rows(made, found.report.base_model, found.report.max_seq_length)
        return made
    task = DatasetTask(
        kind=Kind.FIX,
        name=dataset.name,
        source=f"Revision {dataset.revision}",
        dataset=dataset,
        options={"fix": fix.as_options()},
    )
    return work.launch(work.add(task))


def checked(dataset: Dataset) -> findings.Findings:
    """What was found in the rows. Raises Conflict when that was not looked for."""
    found = findings.newest_findings(dataset)
    if found is None:
        raise Conflict(f"The rows of {dataset} are not checked yet; check every row first.")
    return found


def run(task: DatasetTask) -> Dataset | DatasetReport:
    """Do the work of a running task. Raises what went wrong after the row says it, too."""
    made: Dataset | DatasetReport
    with work.doing(task) as progress:
        if task.kind == Kind.EXAMINE:
            made = _examine(task, progress)
            task.complete(report=made)
        elif task.kind == Kind.ROWS:
            made = _find_rows(task, progress)
            task.complete(report=made)
        elif task.kind == Kind.FIX:
            made = _fix(task, progress)
            task.complete(dataset=made)
        else:
            made = _register(task, progress)
            task.complete(dataset=made)
    return made


def _register(task: DatasetTask, progress: Progress) -> Dataset:
    options = task.options
    description, columns = options["description"], options["columns"]
    try:
        if not task.upload:
            return snapshots.register_hub_dataset(
                task.name,
                task.source,
                description,
                columns=columns,
                progress=progress,
                folder=paths.download_dir(f"{task.pk:032x}"),  # a retry continues in it
            )
        return snapshots.register_dataset(
            task.name,
            paths.upload_dir(task.upload) / options["file"],
            description,
            origin=task.source,
            columns=columns,
            progress=progress,
            names=options.get("names"),
        )
    except BadExamples as error:
        task.write(problems=error.problems)
        raise


def _examine(task: DatasetTask, progress: Progress) -> DatasetReport:
    return examine(*_asked(task), progress=progress)


def _find_rows(task: DatasetTask, progress: Progress) -> DatasetReport:
    asked = _asked(task)
    report = find_report(*asked) or examine(*asked, progress=progress)
    findings.find(report, progress, work.staging(task))
    return report


def _asked(task: DatasetTask) -> tuple[Dataset, BaseModel, int]:
    base = BaseModel.objects.filter(pk=task.options["base"]).first()
    if base is None or task.dataset is None:
        raise NotFound("The base model no longer exists; examine with another one.")
    return task.dataset, base, task.options["max_seq_length"]


def _fix(task: DatasetTask, progress: Progress) -> Dataset:
    if task.dataset is None:
        raise NotFound("The data set no longer exists.")
    found, fix = checked(task.dataset), Fix.of_options(task.options["fix"])
    made = fixes.apply(found, fix, progress, work.staging(task))
    report = examine(made, found.report.base_model, found.report.max_seq_length, progress=progress)
    findings.find(report, progress, work.staging(task))
    return made
