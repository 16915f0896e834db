"""One attempt at a job, in the child process that holds its lease.

The order makes `kill -9` harmless at any point: the version's row is begun and named by the job
in one transaction, its files are published before it becomes ready, and it is ready before the
job is completed. An attempt that finds some of this done goes on from there.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import structlog
from django.conf import settings
from pydantic import ValidationError

from backends import get_backend
from backends.base import (
    BackendError,
    Finished,
    OutOfMemory,
    Started,
    TrainingConfig,
    TrainingRun,
)
from registry.bases import registration
from registry.datasets import snapshots
from registry.errors import HubError
from registry.models import ModelVersion
from registry.storage import artifacts, paths
from registry.storage.checks import require_sound
from registry.storage.sizes import human
from registry.versions import lifecycle
from training import queue
from training.attempt import reproduction, scoring, template
from training.attempt.pacing import Pace
from training.attempt.progress import Progress
from training.config.changes import explain
from training.memory import estimate
from training.models import LeaseLost, TrainingJob
from training.queue.outage import ride_out

_DISK_MARGIN = 256 * 10**6  # databases and logs grow beside the job

log = structlog.get_logger(__name__)


class Stopped(Exception):
    """This process has to end; the job has not. The text says why."""


class Cancelled(Exception):
    """Somebody asked for the job to be cancelled."""


class Paused(Exception):
    """Somebody asked for the job to be paused."""


class NoSpace(Exception):
    """The disk is too full to train; the text says how full."""


def run(job_id: int, lease: uuid.UUID, asked_to_stop: Callable[[], str]) -> None:
    """Train and record the outcome, whatever it is. Raises LeaseLost when the job is not ours.

    `asked_to_stop` returns why this process has to end, or an empty text.
    """
    job = (
        TrainingJob.objects.held(job_id, lease)
        .select_related(
            "model__base_model",
            "dataset",
            "result_version__model",
            "reproduces__model",
            "reproduces__base_model",
        )
        .first()
    )
    if job is None:
        raise LeaseLost(f"Job {job_id} is not held by lease {lease}.")
    outcome = _outcome(job, lease, asked_to_stop)
    ride_out(outcome)
    job.refresh_from_db(fields=["status"])
    if job.status == TrainingJob.Status.COMPLETED:
        for folder in paths.job_dir(job.pk).glob("checkpoints*"):
            shutil.rmtree(folder, ignore_errors=True)


def _outcome(
    job: TrainingJob, lease: uuid.UUID, asked_to_stop: Callable[[], str]
) -> Callable[[], None]:
    """Run the attempt; what has to be written about its end, as a call that may be repeated."""
    try:
        _attempt(job, lease, asked_to_stop)
    except LeaseLost:
        raise
    except Cancelled:
        return lambda: queue.cancelled(job, lease)
    except Paused:
        return lambda: queue.requeue(job, lease, "Paused; resume it to let it go on.")
    except Stopped as stopped:
        reason = str(stopped)
        return lambda: queue.requeue(job, lease, reason)
    except OutOfMemory as error:
        log.exception("out of memory")
        reason = str(error)
        return lambda: queue.crashed(job, lease, reason, out_of_memory=True)
    except (BackendError, HubError, NoSpace) as error:
        log.exception("training failed")
        reason = str(error)
        return lambda: queue.fail(job, lease, reason)
    except ValidationError as error:
        reason = f"The configuration is not valid. {explain(error)}"
        return lambda: queue.fail(job, lease, reason)
    except Exception as error:
        log.exception("training crashed")
        reason = f"Unexpected {type(error).__name__}: {error}."
        return lambda: queue.crashed(job, lease, reason)
    return lambda: queue.complete(job, lease)


def _attempt(job: TrainingJob, lease: uuid.UUID, asked_to_stop: Callable[[], str]) -> None:
    config = job.training_config
    progress = Progress(job, lease, config)
    if job.result_version is not None and job.result_version.status == ModelVersion.Status.READY:
        # An earlier attempt died between the version and the job.
        _score(job, lease, job.result_version, progress, asked_to_stop)
        return
    progress.enter("verifying")
    verify_inputs(job)
    _check_disk(job, config)
    template.check(job, lease)
    version = None
    if job.reproduces is None:
        version = ride_out(lambda: queue.attach_version(job, lease, config))
    output = _empty_staging(job)
    progress.enter("preparing")
    training = TrainingRun(
        base=registration.base_path(job.base_model),
        data=snapshots.dataset_path(job.dataset),
        output=output,
        checkpoints=_checkpoints(job),
        config=config,
    )
    metrics = _train(job, lease, training, progress, asked_to_stop)
    if version is None:
        progress.enter("comparing")
        reproduction.conclude(job, output, metrics)
        return
    progress.enter("publishing")
    ride_out(lambda: lifecycle.complete_version(version, output, metrics))
    _score(job, lease, version, progress, asked_to_stop)


def _score(
    job: TrainingJob,
    lease: uuid.UUID,
    version: ModelVersion,
    progress: Progress,
    asked_to_stop: Callable[[], str],
) -> None:
    """Judge the version, which is ready and stays so: a cancel ends only the judging."""

    def stopped() -> str:
        if reason := asked_to_stop():
            raise Stopped(reason)
        try:
            ride_out(lambda: _heed_row(job, lease))
        except Cancelled:
            return "Scoring was cancelled; the version had been made already."
        return ""

    scoring.judge(job, version, progress.enter, stopped)


def _train(
    job: TrainingJob,
    lease: uuid.UUID,
    training: TrainingRun,
    progress: Progress,
    asked_to_stop: Callable[[], str],
) -> dict[str, float]:
    """Drive the backend to its end, or to the first step after which it shall stop."""

    def heed() -> None:
        """Raises what somebody has asked for in the meantime."""
        try:
            if reason := asked_to_stop():
                raise Stopped(reason)
            ride_out(lambda: _heed_row(job, lease))
        except (Stopped, Cancelled, Paused):
            progress.enter("saving")
            raise

    metrics: dict[str, float] = {}
    pace = Pace(progress.hold, heed)
    try:
        # Closing the generator leaves a checkpoint of its last step, whatever is raised here.
        with closing(get_backend(settings.BACKEND).train(training)) as events:
            for event in events:
                progress.record(event)
                if isinstance(event, Started):
                    log.info(
                        "training", iteration=event.iteration, trainable=event.trainable_parameters
                    )
                elif isinstance(event, Finished):
                    metrics = event.metrics
                heed()
                pace.after(event)
    except (Stopped, Cancelled, Paused):
        progress.saved()
        raise
    return metrics


def _heed_row(job: TrainingJob, lease: uuid.UUID) -> None:
    """Raises Cancelled or Paused when that was asked for, LeaseLost when the job is not ours."""
    asked = TrainingJob.objects.held(job.pk, lease).values_list("cancel_requested", "paused")
    for cancel, pause in asked:
        if cancel:
            raise Cancelled
        if pause:
            raise Paused
        return
    raise LeaseLost(f"Job {job.pk} is no longer held by lease {lease}.")


def verify_inputs(job: TrainingJob) -> None:
    """Read base model and data set through. Raises Damaged when either is not what was recorded."""
    base, dataset = job.base_model, job.dataset
    for folder, recorded, what in (
        (registration.base_path(base), base.manifest_sha256, f"Base model {base.name}"),
        (snapshots.dataset_path(dataset), dataset.checksum, f"Data set {dataset.name}"),
    ):
        require_sound(folder, recorded, what, "Register it again.")


def _check_disk(job: TrainingJob, config: TrainingConfig) -> None:
    """Raises NoSpace when checkpoints and result would not fit."""
    size = estimate.Dimensions.read(registration.base_path(job.base_model))
    need = estimate.disk_bytes(size, config) + _DISK_MARGIN
    free = shutil.disk_usage(paths.root()).free
    if free < need:
        raise NoSpace(
            f"Training needs about {human(need)} on the disk of {paths.root()}, "
            f"{human(free)} are free; make room and retry the job."
        )


def _checkpoints(job: TrainingJob) -> Path:
    """A halved batch has a folder of its own: the checkpoints of the larger one do not fit it."""
    halved = "" if job.batch_size_before is None else f"-batch-{job.config['batch_size']}"
    folder = paths.job_dir(job.pk) / f"checkpoints{halved}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _empty_staging(job: TrainingJob) -> Path:
    """A new output folder; what a killed attempt left of its own is removed."""
    purpose = f"job-{job.pk}"
    for left in paths.staging_dirs(purpose):
        artifacts.discard(left)
    return paths.staging_dir(purpose)


def orphaned() -> bool:
    """Whether the worker that started this process is gone: then another may start the job anew."""
    worker = os.environ.get("HUB_WORKER_PID")
    return worker is not None and os.getppid() != int(worker)
