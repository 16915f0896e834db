"""Importing a version from a bundle: everything is verified before anything is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from io import SEEK_END
from pathlib import Path
from typing import IO

from django.db import transaction

from registry.background.progress import SILENT, Progress
from registry.bases.registration import find_base
from registry.bundles.index import Index, in_order, read_index
from registry.bundles.writer import INDEX, dimensions
from registry.catalog.registration import new_model, save_model
from registry.datasets.snapshots import register_dataset
from registry.errors import Conflict, Damaged, Invalid, NotFound
from registry.mlflow import tracking
from registry.models import BaseModel, Dataset, Model, ModelVersion
from registry.storage import artifacts, paths, tarball
from registry.storage.checks import require_sound
from registry.versions import numbering


def import_bundle(
    path: Path,
    model_name: str = "",
    base_name: str = "",
    number: str = "",
    progress: Progress = SILENT,
) -> ModelVersion:
    """Import the bundle at `path` as `take_bundle` does. Also raises NotFound when there is none."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}.") from None
    with file:
        return take_at_once(file, model_name, base_name, number, progress)


def take_at_once(
    file: IO[bytes],
    model_name: str = "",
    base_name: str = "",
    number: str = "",
    progress: Progress = SILENT,
) -> ModelVersion:
    """`take_bundle` for a person who waits: a `number` that is taken is refused."""
    if number:
        foresee(file, model_name, base_name, number)
        file.seek(0)
    return take_bundle(file, model_name, base_name, number, progress=progress)


def take_bundle(
    file: IO[bytes],
    model_name: str = "",
    base_name: str = "",
    number: str = "",
    *,
    progress: Progress = SILENT,
    purpose: str = "bundle",
    kept: Callable[[ModelVersion], object] = lambda version: None,
) -> ModelVersion:
    """Verify a bundle and make its version here, with `number`, or where that is empty or taken
    by then, its own or the next free one.

    `file` is read from its beginning, into staging folders of this `purpose`, and closed by who
    opened it. `kept` is called in the transaction that makes the version, so what it writes is
    there exactly when the version is. Raises Damaged naming the file that is not as it was
    written, NotFound when the base model is missing, Invalid when `base_name` does not fit or
    the model has another base, Conflict.
    """
    staging = paths.staging_dir(purpose)
    try:
        index, digest = read_index(file)
        progress.stage("Verifying the bundle")
        _unpack(file, index, staging, progress)
        require_sound(staging / "adapter", index.lineage.manifest_sha256, "The adapter")
        base = _find_base(index, base_name)
        if (staging / "data").exists():
            checksum = index.dataset.checksum if index.dataset else ""
            require_sound(staging / "data", checksum, "The data set")
        model = _find_model(index, model_name, base)
        _take_data(staging / "data", index, progress)
        progress.stage("Computing checksums")
        manifest = artifacts.seal(staging / "adapter")
        progress.stage("Saving the version")  # raises when the row was marked as failed
        draft = _version(index, model, base, digest)
        return _keep(staging / "adapter", manifest, draft, index.version, number, kept)
    finally:
        artifacts.discard(staging)


def foresee(
    file: IO[bytes], model_name: str = "", base_name: str = "", number: str = ""
) -> tuple[str, str]:
    """The model that a bundle's version would belong to, and the version's number in the bundle,
    from its first bytes alone. Raises what `take_bundle` raises for those, and what
    `numbering.check` raises."""
    index, _ = read_index(file)
    model = _find_model(index, model_name, _find_base(index, base_name))
    if number:
        numbering.check(model, number)
    return model.name, index.version


def _unpack(file: IO[bytes], index: Index, staging: Path, progress: Progress) -> None:
    """Write every file below `staging`; their sizes must fill the bundle exactly."""
    folded = {name.lower() for name in index.files}
    if len(folded) != len(index.files):
        raise Invalid("Two files of the bundle differ only in case.")
    wanted = sum(tarball.length(entry.size) for entry in index.files.values()) + len(tarball.END)
    start = file.tell()
    if file.seek(0, SEEK_END) - start != wanted:
        raise Damaged("The bundle is truncated, or something was added to it.")
    file.seek(start)
    for name in in_order(index):
        entry = index.files[name]
        if tarball.peek_size(file, name, entry.size) != entry.size:
            raise Damaged(f"{name} does not have the size that {INDEX} states.")
        target = staging / name  # the header has proved the name a plain one
        target.parent.mkdir(exist_ok=True)
        digest = hashlib.sha256()
        with target.open("xb") as out:
            for piece in tarball.read(file, name, entry.size):
                digest.update(piece)
                out.write(piece)
                progress.part((file.tell() - start) / wanted)
        if digest.hexdigest() != entry.sha256:
            raise Damaged(f"{name} differs from what was bundled.")
    if file.read() != tarball.END:
        raise Damaged("The end of the bundle is damaged.")


def _take_data(folder: Path, index: Index, progress: Progress) -> None:
    """Register the bundled examples, unless the same bytes are registered under any name."""
    dataset = index.dataset
    if dataset is None or not folder.exists():
        return
    if not Dataset.objects.filter(checksum=dataset.checksum).exists():
        (folder / artifacts.MANIFEST).unlink()
        register_dataset(
            dataset.name,
            folder,
            dataset.description,
            origin=f"Bundle of {index.lineage.version}",
            progress=progress,
        )


def _find_base(index: Index, wanted: str) -> BaseModel:
    recorded = index.base
    if wanted:
        base = find_base(wanted)
        if base.manifest_sha256 == recorded.checksum:
            return base
        own = dimensions(base)
        if not own or own != recorded.dimensions or base.architecture != recorded.architecture:
            raise Invalid(
                f"{base} does not fit: its architecture or dimensions differ from those of "
                f"{recorded.name}, which the adapter was trained on, or are unknown."
            )
        return base
    bases = BaseModel.objects.filter(manifest_sha256=recorded.checksum)
    found = bases.order_by("pk").first() if recorded.checksum else None
    if found is None:
        revision = f", revision {recorded.revision}" if recorded.revision else ""
        raise NotFound(
            f"The base model {recorded.name} (sha256 {recorded.checksum[:12] or 'unknown'}) is not "
            f"on this hub. Import it from {recorded.origin or 'where it came from'}{revision}, "
            "or name one of the same shape with --base."
        )
    return found


def _find_model(index: Index, wanted: str, base: BaseModel) -> Model:
    """The model that gets the version: an existing one, or a new one that is not saved yet."""
    bundled = index.model
    name = wanted or bundled.name
    model = Model.objects.filter(name__iexact=name).select_related("base_model").first()
    if model is None:
        known = bundled.task_type in Model.TaskType.values
        task = bundled.task_type if known else Model.TaskType.OTHER
        return new_model(name, base, task, bundled.description, bundled.tags)
    if model.base_model_id != base.pk:
        raise Invalid(
            f"{model} is based on {model.base_model}, the bundle needs {base}; "
            "choose another name with --model."
        )
    return model


def _keep(
    staging: Path,
    manifest: artifacts.Manifest,
    version: ModelVersion,
    own: str,
    number: str,
    kept: Callable[[ModelVersion], object],
) -> ModelVersion:
    """Save model, row, folder and the update for MLflow together: others see all of them or none. A
    crash before the commit leaves at most a folder that no row names."""
    model = version.model
    with transaction.atomic():
        if model.pk is None:
            save_model(model)
            version.model = model  # whose id it takes only now
        if Model.objects.select_for_update().filter(pk=model.pk).first() is None:
            raise Conflict(
                f"{model} was deleted during the import, so nothing was kept; try again."
            )
        version.version, note = numbering.brought(model, own, number)
        version.notes = "\n".join(filter(None, [note, version.notes]))
        target = paths.version_dir(model.name, version.version)
        version.artifact_path = paths.relative(target)
        version.manifest_sha256 = manifest.sha256
        version.size_bytes = manifest.size_bytes
        version.save(force_insert=True)
        tracking.version_imported(version)
        kept(version)
        artifacts.put(staging, manifest, target)
    return version


def _version(index: Index, model: Model, base: BaseModel, digest: str) -> ModelVersion:
    bundled = index.lineage
    checksum = index.dataset.checksum if index.dataset else ""
    datasets = Dataset.objects.filter(checksum=checksum).order_by("pk")
    return ModelVersion(
        model=model,
        status=ModelVersion.Status.READY,
        metrics=bundled.metrics,
        notes=_notes(index, base, digest),
        git_commit=bundled.git_commit,
        git_dirty=bundled.git_dirty,
        git_diff=bundled.git_diff,
        dataset=datasets.first() if checksum else None,
        labels=bundled.labels,
        dataset_checksum=checksum,
        base_model=base,
        base_checksum=index.base.checksum,
        params=bundled.params,
        seed=bundled.seed,
        packages=bundled.packages,
        hardware=bundled.hardware,
    )


def _notes(index: Index, base: BaseModel, digest: str) -> str:
    bundled = index.lineage
    lines = [
        f"Imported from a bundle of {bundled.version}, made {bundled.created_at} "
        f"(sha256 of its {INDEX}: {digest})."
    ]
    if base.manifest_sha256 != index.base.checksum:
        lines.append(f"Trained on other weights, {index.base.name}; attached to {base}.")
    if bundled.parent:
        lines.append(f"Its parent there was {bundled.parent}.")
    if bundled.notes:
        lines.append(bundled.notes)
    return "\n".join(lines)
