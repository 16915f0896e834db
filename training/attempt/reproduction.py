"""Training a version again from its lineage, to check whether the weights come out the same.

The job runs like any other but creates no version: the weights are compared and then deleted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import structlog
from django.db import transaction
from pydantic import ValidationError

from backends.base import TrainingConfig
from registry.bases import registration
from registry.datasets import snapshots
from registry.errors import Conflict, Damaged, explain
from registry.maintenance import verification
from registry.models import Dataset, ModelVersion
from registry.storage import artifacts, checks, paths
from registry.versions import lineage, reproduction
from training import queue
from training.models import TrainingJob
from training.queue.outage import ride_out

log = structlog.get_logger(__name__)

_WORST = 5  # tensors listed in a terminal
_STORED = (ModelVersion.Status.READY, ModelVersion.Status.ARCHIVED)
_LIVE = (TrainingJob.Status.QUEUED, TrainingJob.Status.RUNNING)


def enqueue(version: ModelVersion, priority: int = 0) -> TrainingJob:
    """Queue a job that trains `version` again.

    Raises Conflict when its lineage is incomplete or it is already being reproduced, and Damaged when
    files of the data set, the base model or the version are missing or have the wrong size. The job
    itself reads every byte of them before it trains.
    """
    dataset = _inputs(version)
    config = config_of(version)
    with transaction.atomic():
        ModelVersion.objects.select_for_update().get(pk=version.pk)  # one request at a time
        live = version.reproductions.filter(status__in=_LIVE).first()
        if live is not None:
            raise Conflict(f"Job {live.pk} is already reproducing {version}; wait for it.")
        return queue.enqueue(version.model, dataset, config, priority, reproduces=version)


def _inputs(version: ModelVersion) -> Dataset:
    """The recorded data set, after checking that all files exist. Raises Conflict and Damaged."""
    if version.status not in _STORED:
        raise Conflict(f"{version} is {version.status}, so it has no weights to compare with.")
    dataset, base = version.dataset, version.base_model
    if dataset is None:
        raise Conflict(f"The data set of {version} is unknown, so it cannot be trained again.")
    if version.dataset_checksum not in ("", dataset.checksum):
        raise Conflict(f"Data set {dataset} differs from the one that {version} was trained on.")
    if version.base_checksum not in ("", base.manifest_sha256):
        raise Conflict(f"Base model {base} differs from the one that {version} was trained on.")
    for what, folder, digest in (
        (f"Data set {dataset}", snapshots.dataset_path(dataset), dataset.checksum),
        (f"Base model {base}", registration.base_path(base), base.manifest_sha256),
        (str(version), paths.absolute(version.artifact_path), version.manifest_sha256),
    ):
        if problems := checks.check_sizes(folder, digest):
            raise Damaged(f"{what} is damaged or missing: {' '.join(problems[:3])}")
    return dataset


def config_of(version: ModelVersion) -> TrainingConfig:
    """All recorded settings. Raises Conflict when this hub cannot read them."""
    if not version.params:
        raise Conflict(f"The settings of {version} are unknown, so it cannot be trained again.")
    seed = {} if version.seed is None else {"seed": version.seed}
    try:
        return TrainingConfig.recorded({**version.params, **seed})
    except ValidationError as error:
        raise Conflict(
            f"The settings of {version} are not valid for this hub. {explain(error.errors())}"
        ) from None


def conclude(job: TrainingJob, output: Path, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Compare the weights in `output` with the version, record the verdict, and delete the weights.
    Safe to repeat. Raises Damaged when the version's own files differ from what was recorded."""
    version = job.reproduces
    assert version is not None, "the job is a reproduction"
    if problems := verification.verify_version(version).problems:
        raise Damaged(f"The files of {version} are damaged: {' '.join(problems[:3])}")
    config = job.training_config
    found = {
        **reproduction.compare(version, output, config.learning_rate * job_steps(job), metrics),
        **reproduction.explain(version, lineage.collect(), config.model_dump(mode="json")),
        "job": job.pk,
    }
    ride_out(lambda: reproduction.record(version, found))
    artifacts.discard(output)
    log.info("version reproduced", version=str(version), verdict=found["verdict"])
    return found


def job_steps(job: TrainingJob) -> int:
    """Steps that the job has completed."""
    rows = TrainingJob.objects.filter(pk=job.pk).values_list("iteration", flat=True)
    return max(1, rows[0])


def described(found: Mapping[str, Any]) -> Iterator[str]:
    """The verdict as lines for a terminal."""
    threshold = found["threshold"]
    yield f"{found['verdict']}: the largest weight difference is {found['largest_difference']:.3g}."
    if found["verdict"] != "bit-exact":
        yield (
            f"Close means within {threshold['tolerance']:.0%} of a tensor's largest weight and of "
            f"{threshold['reach']:.3g}, the most that training can move a weight."
        )
        worst = sorted(
            found["differences"].items(),
            key=lambda item: -(math.inf if item[1] is None else item[1]),
        )
        for name, apart in worst[:_WORST]:
            yield f"  {name}: {'only in one of them' if apart is None else f'{apart:.3g}'}"
    for cause in found["differs"]:
        yield f"Changed: {cause['what']} was {cause['recorded']} and is now {cause['now']}."
    for what in found["unknown"]:
        yield f"Unknown: {what}."
