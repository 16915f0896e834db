"""A version's files for download: its adapter, a fused model folder, or one GGUF file.

An export in storage is one file, `storage/exports/ID-FORM/NAME-VERSION-FORM.zip`, that appears
whole by a rename. Its row, an `ExportTask`, says how far it is and why it failed; the certificate
of what was fused lies beside the file as `fidelity.json`, too.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from backends.litter import tidy
from registry.background import work
from registry.background.progress import SILENT, Progress
from registry.bases import registration
from registry.bases.child import ask_backend
from registry.conversion.conversions import adapter_path, fuse_into, rows_of
from registry.conversion.fidelity import LIMITS, Limits, held_out_split
from registry.errors import Conflict, Invalid, NotFound
from registry.models import ExportTask, ModelVersion
from registry.promotion import resolve
from registry.storage import artifacts, paths

FORMS = tuple(ExportTask.Form.values)
_CERTIFICATE = "fidelity.json"
_PIECE = 16 << 20


@dataclass(frozen=True)
class Export:
    """One export of a version: "ready" with a file, "running" at a stage, or "failed" with the
    reason. `certificate` says how faithful what was fused is."""

    form: str
    status: str
    size_bytes: int = 0
    file_name: str = ""
    error: str = ""
    stage: str = ""
    share: float = 0.0
    certificate: dict[str, Any] = field(default_factory=dict)


def find_version(name: str) -> ModelVersion:
    """`NAME`, `NAME@1.2.0` or `NAME@alias`; an archived version by its number, too."""
    model, _, number = name.partition("@")
    found = ModelVersion.objects.filter(model__name__iexact=model, version=number).first()
    served = found or resolve.resolve(name).version
    if served is None:
        raise NotFound(f"{name} is a base model; name a version.")
    return served


def write(version: ModelVersion, form: str, target: Path, limits: Limits = LIMITS) -> Path:
    """Write the export's files into `target`, a new or empty folder. Raises Conflict, Invalid."""
    if target.exists() and (not target.is_dir() or tidy(target.iterdir())):
        raise Conflict(f"{target} exists and is not an empty folder; choose another one.")
    with _made(version, form, limits) as made:
        target.mkdir(parents=True, exist_ok=True)
        for path in tidy(made.iterdir()):
            shutil.copyfile(path, target / path.name)
    return target


def store(version: ModelVersion, form: str, limits: Limits = LIMITS) -> Path:
    """Make the export in storage now; its file. An existing export is returned as it is."""
    ready = file_path(version, form)
    return ready if ready.exists() else run(_task(version, form), limits)


def run(task: ExportTask, limits: Limits = LIMITS) -> Path:
    """Do the work of a running task; its file. Raises what went wrong after the row says it, too."""
    version, form = task.version, task.form
    ready = file_path(version, form)
    ready.parent.mkdir(parents=True, exist_ok=True)
    with work.doing(task) as progress:
        progress.stage("Reading the adapter")
        with _made(version, form, limits, progress, work.staging(task)) as made:
            part = made.parent / "export.zip"
            progress.stage("Packing")
            _zip(made, part, ready.stem, progress)
            if (made / _CERTIFICATE).exists():
                shutil.copyfile(made / _CERTIFICATE, ready.with_name(_CERTIFICATE))
            part.rename(ready)
        task.complete()
    return ready


def request(version: ModelVersion, form: str) -> Export:
    """Make the export for download: an adapter at once, what needs the model in a child process.

    Raises Invalid, Conflict and Damaged.
    """
    current = look(version, form)
    if current and current.status in ("ready", "running"):
        return current
    if form == "adapter":
        store(version, form)
    else:
        adapter_path(version)
        _refuse_early(version, form)
        work.launch(_task(version, form))
    return look(version, form) or Export(form, "running")


def look(version: ModelVersion, form: str) -> Export | None:
    """The state of an export, or None when it was never created. Raises Invalid."""
    path = file_path(version, form)
    if path.exists():
        certificate = _read_json(path.parent / _CERTIFICATE)
        return Export(form, "ready", path.stat().st_size, path.name, certificate=certificate)
    task = version.exports.up_to_date().filter(form=form).first()
    if task is None or task.status == ExportTask.Status.COMPLETED:
        return None
    return Export(form, task.status, error=task.error_message, stage=task.stage, share=task.share)


def open_file(version: ModelVersion, form: str) -> BinaryIO:
    """The file of an export that is ready. Raises NotFound."""
    try:
        return file_path(version, form).open("rb")
    except FileNotFoundError:
        raise NotFound(f"{version} has no {form} export; create it first.") from None


def exports_of(version: ModelVersion) -> list[Export]:
    """All exports of a version, in any state."""
    return [found for form in FORMS if (found := look(version, form))]


def file_path(version: ModelVersion, form: str) -> Path:
    """Where the export's file is, or will be. Raises Invalid for an unknown form."""
    if form not in FORMS:
        raise Invalid(f"The export form must be one of {', '.join(FORMS)}.")
    name = f"{version.model.name}-{version.version}-{form}.zip"
    return paths.export_dir(f"{version.pk}-{form}") / name


def _read_json(path: Path) -> dict[str, Any]:
    """The object in the file; empty when there is none."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


@contextmanager
def _made(
    version: ModelVersion,
    form: str,
    limits: Limits,
    progress: Progress = SILENT,
    purpose: str = "export",
) -> Iterator[Path]:
    """A folder with the export's files inside one in staging; both are removed afterwards."""
    file_path(version, form)  # refuses unknown forms
    adapter = adapter_path(version)
    _refuse_early(version, form)
    staging = paths.staging_dir(purpose)
    try:
        files = staging / "files"
        files.mkdir()
        if form == "adapter":
            for name in artifacts.read_manifest(adapter).files:
                shutil.copyfile(adapter / name, files / Path(name).name)
        else:
            _fused(version, adapter, form, staging, limits, progress)
        progress.stage("Computing checksums")
        artifacts.seal(files)
        yield files
    finally:
        artifacts.discard(staging)


def _fused(
    version: ModelVersion,
    adapter: Path,
    form: str,
    staging: Path,
    limits: Limits,
    progress: Progress,
) -> None:
    files = staging / "files"
    fused = files if form == "fused" else staging / "fused"
    fused.mkdir(exist_ok=True)
    _, certificate = fuse_into(version, adapter, fused, limits, progress)
    if form == "gguf":
        progress.stage("Writing GGUF")
        name = f"{version.model.name}-{version.version}.gguf"
        ask_backend(type(None), "export_gguf", fused, files / name, beat=progress.beat)
    (files / _CERTIFICATE).write_text(json.dumps(certificate, indent=1) + "\n")


def _refuse_early(version: ModelVersion, form: str) -> None:
    """Raise now what would otherwise be raised after an hour of fusing."""
    if form == "adapter":
        return
    held_out_split(rows_of(version))
    if form == "gguf":
        ask_backend(type(None), "check_gguf", registration.base_path(version.base_model))


def _zip(folder: Path, target: Path, top: str, progress: Progress) -> None:
    """Weights do not compress, so nothing is compressed."""
    names = tidy(folder.iterdir())
    total, done = sum(path.stat().st_size for path in names) or 1, 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for path in names:
            entry = zipfile.ZipInfo.from_file(path, f"{top}/{path.name}")
            with path.open("rb") as source, archive.open(entry, "w") as packed:
                while piece := source.read(_PIECE):
                    packed.write(piece)
                    done += len(piece)
                    progress.part(done / total)


def _task(version: ModelVersion, form: str) -> ExportTask:
    """The row of an export that is about to be made, running. There is one for each version and
    form: what was made before and is gone leaves it behind. Raises Conflict when it is running."""
    version.exports.fail_silent()
    file_path(version, form)  # refuses unknown forms
    version.exports.filter(form=form).exclude(status=ExportTask.Status.RUNNING).delete()
    return work.add(ExportTask(version=version, form=form))
