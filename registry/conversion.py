"""New base models out of what is here: quantized from a base, fused from a version.

Nothing is kept that has no certificate of its fidelity.
"""

from __future__ import annotations

from pathlib import Path

from backends.base import ImportedModel
from registry import artifacts, bases, datasets, paths
from registry.base_import import ask_backend
from registry.errors import Conflict, Damaged, Invalid
from registry.fidelity import LIMITS, Limits, certify
from registry.models import BaseModel, Dataset, ModelVersion

BITS = (4, 8)
GROUP_SIZES = (32, 64, 128)


def quantize_base(
    base: BaseModel,
    bits: int = 4,
    group_size: int = 64,
    *,
    name: str = "",
    dataset: Dataset | None = None,
    limits: Limits = LIMITS,
) -> BaseModel:
    """A base model with `bits` a weight, judged on `dataset` (by default the starter's examples).

    Raises Invalid (also when the result is not faithful: nothing is kept), Conflict.
    """
    if bits not in BITS or group_size not in GROUP_SIZES:
        raise Invalid("Weights are quantized to 4 or 8 bits in groups of 32, 64 or 128.")
    name = name or f"{base.name}-{bits}bit"
    bases.check_name(name)
    dataset = dataset or datasets.register_starter_dataset()
    origin = f"{base.name}, {bits} bits in groups of {group_size}"
    row = BaseModel(name=name, source=BaseModel.Source.QUANTIZED, origin=origin, derived_from=base)
    source = bases.base_path(base)
    staging = paths.staging_dir("base")
    try:
        imported = ask_backend(ImportedModel, "quantize", source, staging, bits, group_size)
        row.certificate = certify(source, None, staging, dataset, limits)
        return bases.publish(row, imported, staging)
    finally:
        artifacts.discard(staging)


def fuse_version(version: ModelVersion, *, name: str = "", limits: Limits = LIMITS) -> BaseModel:
    """A base model with the version's adapter in its weights, judged on the held-out rows of the
    data set that the version learned from. Raises Invalid and Conflict as `quantize_base` does."""
    adapter = adapter_path(version)
    name = name or f"{version.model.name}-{version.version}-fused"
    bases.check_name(name)
    base = version.base_model
    row = BaseModel(
        name=name,
        source=BaseModel.Source.FUSED,
        origin=str(version),
        derived_from=base,
        fused_version=version,
    )
    staging = paths.staging_dir("base")
    try:
        imported = fuse_into(version, adapter, staging)
        row.certificate = certify(bases.base_path(base), adapter, staging, rows_of(version), limits)
        return bases.publish(row, imported, staging)
    finally:
        artifacts.discard(staging)


def fuse_into(version: ModelVersion, adapter: Path, target: Path) -> ImportedModel:
    """Write the version's fused weights into the empty folder `target`."""
    return ask_backend(ImportedModel, "fuse", bases.base_path(version.base_model), adapter, target)


def adapter_path(version: ModelVersion) -> Path:
    """The version's adapter folder, verified. Raises Conflict and Damaged."""
    if version.status not in (ModelVersion.Status.READY, ModelVersion.Status.ARCHIVED):
        raise Conflict(f"{version} is {version.get_status_display().lower()} and has no files.")
    folder = paths.absolute(version.artifact_path)
    if problems := artifacts.verify(folder):
        raise Damaged(f"{version} is damaged: {' '.join(problems)}")
    return folder


def rows_of(version: ModelVersion) -> Dataset:
    if version.dataset is None:
        raise Invalid(f"The data set that {version} learned from is unknown, so nothing can judge.")
    return version.dataset
