"""Data sets registered, examined and fixed by a child of the web process.

What is small is done at once, but the check of every row, whose libraries are large. Anything else is
a row of `DatasetTask`; uploaded files stay in `storage/uploads` until it is done, so that a failed
one can be retried.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from django.core.files.uploadedfile import UploadedFile

from registry.background import work
from registry.background.progress import Progress
from registry.datasets import hub_files, snapshots, uploads
from registry.datasets.examination import examine, find_report
from registry.datasets.reading.examples import BadExamples
from registry.datasets.workbench import findings, fixes
from registry.datasets.workbench.fixes import Fix
from registry.errors import Conflict, Invalid, NotFound
from registry.models import BaseModel, Dataset, DatasetReport, DatasetTask
from registry.storage import artifacts, paths

AT_ONCE = 4 << 20
"""Bytes that are read while a person waits: a second or two."""

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
    if uploads.sent_size(files) <= AT_ONCE:
        return uploads.register_upload(name, files, description, columns)
    saved = uploads.save(files)
    try:
        task = work.add(_task(name, saved, uploads.origin_of(files), description, columns))
    except BaseException:
        uploads.discard(saved)
        raise
    return work.launch(task)


def start_staged(
    name: str,
    saved: uploads.Saved,
    description: str = "",
    columns: Mapping[str, str] | None = None,
) -> Dataset | DatasetTask:
    """Register what was staged for a preview: at once when it is small, else the task that does.
    It stays staged unless it is registered.

    Raises what `register_dataset` raises.
    """
    snapshots.check(name, columns)
    if uploads.size_of(saved.source, nested=saved.hub) <= AT_ONCE:
        made = snapshots.register_dataset(
            name,
            saved.source,
            description,
            origin=saved.origin,
            columns=columns,
            names=saved.names,
            hub=saved.hub,
        )
        uploads.discard(saved)
        return made
    uploads.claim(saved)
    try:
        task = work.add(_task(name, saved, saved.origin, description, columns))
    except BaseException:
        uploads.give_back(saved.folder)
        raise
    return work.launch(task)


def _task(
    name: str,
    saved: uploads.Saved,
    origin: str,
    description: str,
    columns: Mapping[str, str] | None,
) -> DatasetTask:
    return DatasetTask(
        kind=Kind.REGISTER,
        name=name,
        source=origin[:500],
        options={
            "upload": saved.key,
            "file": saved.source.name if saved.source != saved.folder else "",
            "names": saved.names,
            "hub": saved.hub,
            "description": description,
            "columns": dict(columns or {}),
        },
    )


def start_download(hub_id: str) -> DatasetTask:
    """The task that downloads and stages `hub:OWNER/NAME[@REVISION]` for a preview. Raises Invalid
    and Conflict."""
    name, _ = hub_files.check_id(hub_id)
    called = name.partition("/")[2].rstrip("-._")[:100] or "download"
    task = DatasetTask(kind=Kind.REGISTER, name=called, source=hub_id, options={"download": True})
    return work.launch(work.add(task))


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


def run(task: DatasetTask) -> Dataset | DatasetReport | uploads.Saved:
    """Do the work of a running task. Raises what went wrong after the row says it, too."""
    made: Dataset | DatasetReport | uploads.Saved
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
        elif task.options.get("download"):
            made = _download(task, progress)
            task.complete(options={**task.options, "staged": made.key})
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
            hub=options.get("hub", False),
        )
    except BadExamples as error:
        if task.upload and uploads.give_back(paths.upload_dir(task.upload)):
            task.options = {**options, "upload": "", "staged": task.upload}
        task.write(problems=error.problems, options=task.options)
        raise


def _download(task: DatasetTask, progress: Progress) -> uploads.Saved:
    """Download the files of a hub id, and stage them."""
    place = paths.download_dir(f"{task.pk:032x}")  # a retry continues in it
    progress.stage("Downloading")
    try:
        origin, folder = hub_files.download(task.source, place, progress.part)
    except Invalid:
        artifacts.discard(place)
        raise
    saved = uploads.stage_hub(folder, origin)
    artifacts.discard(place)
    return saved


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
