"""New base models from existing ones: quantized from a base, fused from a version.

Nothing is kept that has no certificate of its fidelity. What can be refused without computing is
refused by `check_quantize` and `check_fuse`, which pages and the API call first.
"""

from __future__ import annotations

from pathlib import Path

from backends.base import ImportedModel
from registry.background.progress import SILENT, Progress
from registry.bases import registration
from registry.bases.child import ask_backend
from registry.conversion.fidelity import LIMITS, Limits, certify, held_out_split
from registry.datasets import snapshots
from registry.errors import Conflict, Invalid
from registry.models import BaseModel, Dataset, ModelVersion
from registry.storage import artifacts, paths
from registry.storage.checks import require_sound

BITS = (4, 8)
GROUP_SIZES = (32, 64, 128)


def check_quantize(
    base: BaseModel, bits: int, group_size: int, name: str, dataset: Dataset | None
) -> tuple[str, Dataset]:
    """The name and the data set that `quantize_base` takes. Raises Invalid and Conflict."""
    if bits not in BITS or group_size not in GROUP_SIZES:
        raise Invalid("Weights are quantized to 4 or 8 bits in groups of 32, 64 or 128.")
    base.refuse_embedding_model()
    if base.is_quantized:
        raise Invalid(f"{base.name} is quantized already; start from its full weights.")
    name = name or f"{base.name}-{bits}bit"
    registration.check_name(name)
    dataset = dataset or snapshots.register_starter_dataset()
    held_out_split(dataset)
    return name, dataset


def check_fuse(version: ModelVersion, name: str) -> tuple[str, Path]:
    """The name and the verified adapter that `fuse_version` takes. Raises Invalid, Conflict and
    Damaged."""
    adapter = adapter_path(version)
    name = name or f"{version.model.name}-{version.version}-fused"
    registration.check_name(name)
    held_out_split(rows_of(version))
    return name, adapter


def quantize_base(
    base: BaseModel,
    bits: int = 4,
    group_size: int = 64,
    *,
    name: str = "",
    dataset: Dataset | None = None,
    limits: Limits = LIMITS,
    progress: Progress = SILENT,
    purpose: str = "base",
) -> BaseModel:
    """A base model with `bits` a weight, judged on `dataset` (by default the starter's examples).

    `purpose` names the folder in staging. Raises Invalid (also when the result is not faithful:
    nothing is kept), Conflict.
    """
    name, dataset = check_quantize(base, bits, group_size, name, dataset)
    origin = f"{base.name}, {bits} bits in groups of {group_size}"
    row = BaseModel(name=name, source=BaseModel.Source.QUANTIZED, origin=origin, derived_from=base)
    source = registration.base_path(base)
    staging = paths.staging_dir(purpose)
    try:
        progress.stage("Quantizing")
        imported = ask_backend(
            ImportedModel, "quantize", source, staging, bits, group_size, beat=progress.beat
        )
        progress.stage("Comparing with the original")
        row.certificate = certify(source, None, staging, dataset, limits, progress.beat)
        progress.stage("Computing checksums")
        return registration.publish(row, imported, staging)
    finally:
        artifacts.discard(staging)


def fuse_version(
    version: ModelVersion,
    *,
    name: str = "",
    limits: Limits = LIMITS,
    progress: Progress = SILENT,
    purpose: str = "base",
) -> BaseModel:
    """A base model with the version's adapter in its weights, judged on the held-out rows of the
    data set that the version learned from. Raises Invalid and Conflict as `quantize_base` does."""
    name, adapter = check_fuse(version, name)
    base = version.base_model
    row = BaseModel(
        name=name,
        source=BaseModel.Source.FUSED,
        origin=str(version),
        derived_from=base,
        fused_version=version,
    )
    staging = paths.staging_dir(purpose)
    try:
        imported, row.certificate = fuse_into(version, adapter, staging, limits, progress)
        progress.stage("Computing checksums")
        return registration.publish(row, imported, staging)
    finally:
        artifacts.discard(staging)


def fuse_into(
    version: ModelVersion, adapter: Path, target: Path, limits: Limits, progress: Progress
) -> tuple[ImportedModel, dict[str, object]]:
    """Write the version's fused weights into the empty folder `target`; what they are, and the
    certificate that they say what the adapter said."""
    base = registration.base_path(version.base_model)
    progress.stage("Fusing")
    imported = ask_backend(ImportedModel, "fuse", base, adapter, target, beat=progress.beat)
    progress.stage("Comparing with the adapter")
    return imported, certify(base, adapter, target, rows_of(version), limits, progress.beat)


def adapter_path(version: ModelVersion) -> Path:
    """The version's adapter folder, verified. Raises Conflict and Damaged."""
    if version.status not in (ModelVersion.Status.READY, ModelVersion.Status.ARCHIVED):
        raise Conflict(f"{version} is {version.get_status_display().lower()} and has no files.")
    folder = paths.absolute(version.artifact_path)
    require_sound(folder, version.manifest_sha256, str(version))
    return folder


def rows_of(version: ModelVersion) -> Dataset:
    if version.dataset is None:
        raise Invalid(
            f"The training data set of {version} is unknown, so the result cannot be checked."
        )
    return version.dataset
