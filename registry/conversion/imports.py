"""New base models: downloaded, copied, quantized or fused, each with a row of `BaseImport`.

The work runs where it is called: in a command, or in a child process that the web starts. A
download lies in storage/staging under a name made of its source, so that a retry continues it, also
after a pause; a copy and a conversion start again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from django.utils import timezone

from registry.background import work
from registry.background.progress import SILENT, Progress
from registry.bases import downloads, registration
from registry.bases.speed import Speed
from registry.conversion import conversions
from registry.errors import Conflict, Invalid, NotFound
from registry.models import BaseImport, BaseModel, Dataset, ModelVersion
from registry.models.bases import FINISHING
from registry.models.work import PAUSED
from registry.storage import artifacts, paths
from registry.storage.sizes import human

Source = BaseModel.Source


def start(repo: str, name: str = "", revision: str = "") -> BaseImport:
    """Make the row of an import from a hub id, or take up the one that is paused. Raises Invalid and
    Conflict."""
    repo = repo.strip()
    owner, slash, title = repo.partition("/")
    if not slash or not owner or not title or "/" in title or len(repo) > 200:
        raise Invalid(f"{repo!r} is not a hub id; write it as OWNER/NAME.")
    name = name.strip() or title
    registration.check_name(name)
    row = BaseImport(name=name, source=Source.HUB, origin=repo, revision=revision)
    # Two imports of one commit would write into one folder.
    running = BaseImport.objects.up_to_date().filter(status=BaseImport.Status.RUNNING)
    if other := running.filter(origin__iexact=repo).first():
        raise work.already_running(other)
    paused = BaseImport.objects.filter(status=PAUSED, origin__iexact=repo, name__iexact=name)
    for earlier in paused.filter(revision__startswith=revision):
        if earlier.take_up():
            return earlier
    return work.add(row)


def start_local(path: Path, name: str = "", *, upload: str = "", origin: str = "") -> BaseImport:
    """Make the row of an import from a folder or a GGUF file of this machine; `upload` is the folder
    of an upload that holds it, which goes when it is imported. Raises Invalid, NotFound and Conflict.
    """
    if not path.exists():
        raise NotFound(f"There is nothing at {path}.")
    name = name.strip() or registration.default_name(path)
    registration.check_name(name)
    kind = Source.FOLDER if path.is_dir() else Source.GGUF
    origin = origin or str(path.absolute())
    if len(str(path)) > 500:
        raise Invalid("The path is over 500 characters long; move the model to a shorter one.")
    options = {"path": str(path.absolute()), **({"upload": upload} if upload else {})}
    return work.add(BaseImport(name=name, source=kind, origin=origin[:500], options=options))


def start_quantize(
    base: BaseModel,
    bits: int = 4,
    group_size: int = 64,
    name: str = "",
    dataset: Dataset | None = None,
) -> BaseImport:
    """Make the row of a quantization. Raises Invalid and Conflict for what can be seen at once."""
    name, dataset = conversions.check_quantize(base, bits, group_size, name.strip(), dataset)
    return work.add(
        BaseImport(
            name=name,
            source=Source.QUANTIZED,
            origin=f"{base.name}, {bits} bits in groups of {group_size}",
            derived_from=base,
            options={"bits": bits, "group_size": group_size, "dataset": dataset.pk},
        )
    )


def start_fuse(version: ModelVersion, name: str = "") -> BaseImport:
    """Make the row of a version's fusion into a base model. Raises Invalid, Conflict, Damaged."""
    name, _ = conversions.check_fuse(version, name.strip())
    return work.add(
        BaseImport(
            name=name,
            source=Source.FUSED,
            origin=str(version),
            derived_from=version.base_model,
            fused_version=version,
        )
    )


def retry(row: BaseImport) -> BaseImport:
    """Launch a failed or paused import again. Raises Conflict, also when its name is taken by now."""
    registration.check_name(row.name)
    return work.retry(row)


def pause(row: BaseImport) -> BaseImport:
    """Stop a download, which keeps what has arrived; its process ends with the next bytes.

    Raises Conflict when it does not run, or is nearly done.
    """
    running = BaseImport.objects.filter(pk=row.pk, status=BaseImport.Status.RUNNING)
    stoppable = running.filter(source=Source.HUB).exclude(stage=FINISHING)
    paused = stoppable.update(status=PAUSED, heartbeat_at=timezone.now())
    row.refresh_from_db()
    if not paused:
        raise Conflict(
            f"{row} is nearly done and cannot be paused."
            if row.is_running and row.is_download
            else f"{row} is not a running download, so there is nothing to pause."
        )
    return row


def run(row: BaseImport, watch: Progress = SILENT) -> BaseModel:
    """Do the work of a running import. Raises what went wrong after the row says it, too."""
    with work.doing(row, watch) as progress:
        base = _make(row, progress)
        row.complete(base_model=base)
    return base


def _make(row: BaseImport, progress: Progress) -> BaseModel:
    if row.is_download:
        return _download(row, progress)
    if row.source == Source.FUSED and row.fused_version:
        return conversions.fuse_version(
            row.fused_version, name=row.name, progress=progress, purpose=work.staging(row)
        )
    if row.source in (Source.FOLDER, Source.GGUF):
        return _copy(row, progress)
    dataset = Dataset.objects.filter(pk=row.options.get("dataset")).first()
    if row.source == Source.QUANTIZED and row.derived_from and dataset:
        return conversions.quantize_base(
            row.derived_from,
            row.options["bits"],
            row.options["group_size"],
            name=row.name,
            dataset=dataset,
            progress=progress,
            purpose=work.staging(row),
        )
    raise Invalid(f"The source of {row.name} no longer exists.")


def _download(row: BaseImport, progress: Progress) -> BaseModel:
    progress.stage("Asking the hub")
    model = downloads.find(row.origin, row.revision)
    total = model.total_bytes
    row.revision, row.total_bytes = model.commit, total
    row.write(revision=model.commit, total_bytes=total)
    # One folder for a commit, whichever import wants it.
    key = hashlib.sha256(f"{downloads.endpoint()} {model.repo} {model.commit}".encode()).hexdigest()
    folder = paths.download_dir(key[:32])
    with downloads.alone(folder, progress.beat):
        (folder / artifacts.MANIFEST).unlink(missing_ok=True)  # of a run killed after sealing
        here = downloads.check_room(folder, total)
        progress.stage(f"Downloading {human(total)}")
        speed = Speed()

        def report(done: int) -> None:
            done = max(done, row.done_bytes)  # files that lay here are gone through once more
            now = {} if speed.now is None else {"bytes_per_second": speed.now}
            progress.part(done / (total or 1), done_bytes=done, **now)

        report(here)
        downloads.fetch(model, folder, report, speed.add)
        row.done_bytes = total
        progress.stage("Checking the files")
        imported = registration.inspect(folder, progress.beat)
        progress.stage(FINISHING)
        base = BaseModel(
            name=row.name,
            source=row.source,
            origin=row.origin,
            revision=model.commit,
            licence=model.licence,
        )
        return registration.publish(base, imported, folder)


def _copy(row: BaseImport, progress: Progress) -> BaseModel:
    """The base model of a folder or file that is on this machine."""
    path = Path(row.options["path"])
    if not path.exists():
        raise Invalid(f"{row.origin} is not there any more; import it again from where it is.")
    total = registration.size_of(path)
    row.total_bytes = total
    row.write(total_bytes=total)
    progress.stage(f"Reading {human(total)}")
    if row.source == Source.GGUF:  # on a CPU 4 bits become 32
        downloads.check_free(paths.root(), registration.unpacked_bytes(path))
    base = registration.register_base(
        row.name,
        Source(row.source),
        str(path),
        origin_shown=row.origin,
        purpose=work.staging(row),
        copied=lambda done: progress.part(done / (total or 1), done_bytes=done),
        beat=progress.beat,
    )
    row.done_bytes = total
    return base
