"""A version's files to take away: its adapter, a fused model folder, or one GGUF file.

An export in storage is one file, `storage/exports/ID-FORM/NAME-VERSION-FORM.zip`, that appears
whole by a rename. While it is made, and when that failed, `state.json` beside it says so; the
certificate of what was fused lies beside it as `fidelity.json`, too.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from registry.background import children
from registry.background.progress import Silent, Telling
from registry.bases import registration
from registry.bases.child import ask_backend
from registry.conversion.conversions import adapter_path, fuse_into, rows_of
from registry.conversion.fidelity import LIMITS, Limits, held_out_split
from registry.errors import Conflict, HubError, Invalid, NotFound
from registry.models import ModelVersion
from registry.promotion import resolve
from registry.storage import artifacts, paths

FORMS = ("adapter", "fused", "gguf")
_STATE = "state.json"
_CERTIFICATE = "fidelity.json"
_SILENCE_S = 600.0  # longer than a large file takes to be hashed or copied
_TELL_EVERY_S = 1.0
_DIED = "The export's process ended before its work, and nothing was kept; ask again."


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
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(f"{target} is there already and not an empty folder; name another one.")
    with _made(version, form, limits, Silent()) as made:
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(made.iterdir()):
            shutil.copyfile(path, target / path.name)
    return target


def store(version: ModelVersion, form: str, limits: Limits = LIMITS) -> Path:
    """Make the export in storage; its file. An export that is there already is given again."""
    ready = file_path(version, form)
    if ready.exists():
        return ready
    ready.parent.mkdir(parents=True, exist_ok=True)
    tell = _Teller(version, form)
    tell.stage("Reading the adapter")
    try:
        with _made(version, form, limits, tell) as made:
            part = ready.with_name(f"{uuid.uuid4().hex}.part")
            try:
                tell.stage("Packing")
                _zip(made, part, top=ready.stem)
                if (made / _CERTIFICATE).exists():
                    shutil.copyfile(made / _CERTIFICATE, ready.with_name(_CERTIFICATE))
                part.rename(ready)
            finally:
                part.unlink(missing_ok=True)
    except HubError as error:
        _tell(version, form, "failed", str(error))
        raise
    except Exception:
        _tell(version, form, "failed", "The export failed; the hub's log says why.")
        raise
    (ready.parent / _STATE).unlink(missing_ok=True)
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
        _launch(version, form)
    return look(version, form) or Export(form, "running")


def look(version: ModelVersion, form: str) -> Export | None:
    """The export as it stands, or None when nobody asked for it. Raises Invalid."""
    path = file_path(version, form)
    if path.exists():
        certificate = _read_json(path.parent / _CERTIFICATE)
        return Export(form, "ready", path.stat().st_size, path.name, certificate=certificate)
    state = _read_json(path.parent / _STATE)
    if not state:
        return None
    status, error = str(state["status"]), str(state["error"])
    if status == "running" and time.time() - float(state["at"]) > _SILENCE_S:
        status, error = "failed", _DIED
    return Export(form, status, error=error, stage=str(state.get("stage", "")))


def open_file(version: ModelVersion, form: str) -> BinaryIO:
    """The file of an export that is ready. Raises NotFound."""
    try:
        return file_path(version, form).open("rb")
    except FileNotFoundError:
        raise NotFound(
            f"{version} has no {form} export that is ready; ask for one first."
        ) from None


def exports_of(version: ModelVersion) -> list[Export]:
    """All exports of a version that were asked for."""
    return [found for form in FORMS if (found := look(version, form))]


def file_path(version: ModelVersion, form: str) -> Path:
    """Where the export's file is, or will be. Raises Invalid for an unknown form."""
    if form not in FORMS:
        raise Invalid(f"A version is exported as one of {', '.join(FORMS)}.")
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
def _made(version: ModelVersion, form: str, limits: Limits, tell: Telling) -> Iterator[Path]:
    """A folder with the export's files, gone afterwards."""
    file_path(version, form)  # refuses unknown forms
    adapter = adapter_path(version)
    _refuse_early(version, form)
    staging = paths.staging_dir(_purpose(version, form))
    try:
        files = staging / "files"
        files.mkdir()
        if form == "adapter":
            for name in artifacts.read_manifest(adapter).files:
                shutil.copyfile(adapter / name, files / Path(name).name)
        else:
            _fused(version, adapter, form, staging, limits, tell)
        tell.stage("Computing checksums")
        artifacts.seal(files)
        yield files
    finally:
        artifacts.discard(staging)


def _fused(
    version: ModelVersion, adapter: Path, form: str, staging: Path, limits: Limits, tell: Telling
) -> None:
    files = staging / "files"
    fused = files if form == "fused" else staging / "fused"
    fused.mkdir(exist_ok=True)
    _, certificate = fuse_into(version, adapter, fused, limits, tell)
    if form == "gguf":
        tell.stage("Writing GGUF")
        name = f"{version.model.name}-{version.version}.gguf"
        ask_backend(type(None), "export_gguf", fused, files / name, beat=tell.beat)
    (files / _CERTIFICATE).write_text(json.dumps(certificate, indent=1) + "\n")


def _refuse_early(version: ModelVersion, form: str) -> None:
    """Say at once what an hour of fusing would end in."""
    if form == "adapter":
        return
    held_out_split(rows_of(version))
    if form == "gguf":
        ask_backend(type(None), "check_gguf", registration.base_path(version.base_model))


def _zip(folder: Path, target: Path, top: str) -> None:
    """Weights do not compress, so nothing is compressed."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{top}/{path.name}")


def _tell(version: ModelVersion, form: str, status: str, error: str = "", stage: str = "") -> None:
    path = file_path(version, form).parent / _STATE
    part = path.with_name(f"{uuid.uuid4().hex}.part")
    state = {"status": status, "error": error, "stage": stage, "at": time.time()}
    part.write_text(json.dumps(state))
    part.replace(path)


class _Teller:
    """Writes the stage to the export's state, and at most once a second that it is alive."""

    def __init__(self, version: ModelVersion, form: str) -> None:
        self._version, self._form = version, form
        self._stage, self._told = "", 0.0

    def stage(self, text: str) -> None:
        self._stage = text
        self._write()

    def beat(self) -> None:
        if time.monotonic() - self._told >= _TELL_EVERY_S:
            self._write()

    def _write(self) -> None:
        self._told = time.monotonic()
        _tell(self._version, self._form, "running", stage=self._stage)


def _purpose(version: ModelVersion, form: str) -> str:
    return f"export-{version.pk}-{form}"


def _discard_leftovers(version: ModelVersion, form: str) -> None:
    """What a killed child left half made."""
    for folder in paths.staging_dirs(_purpose(version, form)):
        artifacts.discard(folder)
    for part in file_path(version, form).parent.glob("*.part"):
        part.unlink(missing_ok=True)


def _launch(version: ModelVersion, form: str) -> None:
    """Do the work in a child process; one that dies without a word is told as failed."""
    file_path(version, form).parent.mkdir(parents=True, exist_ok=True)
    _discard_leftovers(version, form)
    _tell(version, form, "running", stage="Waiting to start")
    children.start(
        *("export", str(version), "--stored", "--form", form),
        log=f"export-{version.pk}-{form}.log",
        died=lambda: _bury(version, form),
    )


def _bury(version: ModelVersion, form: str) -> None:
    if (found := look(version, form)) and found.status == "running":
        _discard_leftovers(version, form)
        _tell(version, form, "failed", _DIED)
