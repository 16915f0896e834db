"""One attempt at a job, in the child process that holds its lease.

The order makes `kill -9` harmless at any point: the version's row is created and linked to the job
in one transaction, its files are published before it becomes ready, and it is ready before the
job is completed. An attempt that finds some of this done continues from there.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import closing
from functools import partial

import structlog
from django.conf import settings
from pydantic import ValidationError

from backends import get_backend
from backends.base import (
    BackendError,
    Finished,
    OutOfMemory,
    Started,
    TrainingRun,
)
from registry.bases import registration
from registry.datasets import labels, snapshots
from registry.errors import HubError, explain
from registry.models import ModelVersion
from registry.storage import artifacts, paths
from registry.storage.checks import require_sound
from registry.storage.sizes import human
from registry.versions import lifecycle
from training import queue, timing
from training.attempt import reproduction, scoring, template
from training.attempt.pacing import Pace
from training.attempt.progress import Progress
from training.memory import estimate
from training.models import LeaseLost, TrainingJob
from training.queue.outage import ride_out

_DISK_MARGIN = 256 * 10**6  # databases and logs grow during the job

log = structlog.get_logger(__name__)


class Stopped(Exception):
    """This process has to exit, but the job can continue later. The text says why."""


class Cancelled(Exception):
    """Someone cancelled the job."""


class Paused(Exception):
    """Someone paused the job."""


class NoSpace(Exception):
    """Not enough free disk space to train; the text says how much is needed."""


def run(job_id: int, lease: uuid.UUID, stop_reason: Callable[[], str]) -> None:
    """Train and record the outcome, whatever it is. Raises LeaseLost when the job is not ours.

    `stop_reason` returns why this process has to exit, or an empty text.
    """
    job = (
        TrainingJob.objects.held(job_id, lease)
        .select_related("model__base_model", "dataset")
        # Most jobs have none of these; joined, their columns take longer than all else here.
        .prefetch_related("result_version__model", "reproduces__model", "reproduces__base_model")
        .first()
    )
    if job is None:
        raise LeaseLost(f"Job {job_id} is not held by lease {lease}.")
    try:
        attempt = Attempt(job, lease, stop_reason)
        try:
            attempt.run()
        finally:
            attempt.progress.end()
    except Cancelled:
        record = partial(queue.cancelled, job, lease)
    except Paused:
        record = partial(queue.requeue, job, lease, "Paused. Resume the job to continue.")
    except Stopped as stopped:
        record = partial(queue.requeue, job, lease, str(stopped))
    except OutOfMemory as error:
        log.exception("out of memory")
        record = partial(queue.crashed, job, lease, str(error), out_of_memory=True)
    except (BackendError, HubError, NoSpace) as error:
        log.exception("training failed")
        record = partial(queue.fail, job, lease, str(error))
    except ValidationError as error:
        record = partial(
            queue.fail, job, lease, f"The configuration is invalid. {explain(error.errors())}"
        )
    except LeaseLost:
        raise
    except Exception as error:
        log.exception("training crashed")
        record = partial(queue.crashed, job, lease, f"Unexpected {type(error).__name__}: {error}.")
    else:
        record = partial(queue.complete, job, lease)
    ride_out(record)
    job.refresh_from_db(fields=["status"])
    if job.status == TrainingJob.Status.COMPLETED:
        for folder in paths.job_dir(job.pk).glob("checkpoints*"):
            shutil.rmtree(folder, ignore_errors=True)


class Attempt:
    """The attempt's steps, from verified inputs to a scored version.

    Raises pydantic's ValidationError when the job's stored configuration is invalid.
    """

    def __init__(self, job: TrainingJob, lease: uuid.UUID, stop_reason: Callable[[], str]) -> None:
        self.job, self.lease = job, lease
        self.config = job.training_config
        self.progress = Progress(job, lease, self.config)
        self._stop_reason = stop_reason

    def run(self) -> None:
        job, progress = self.job, self.progress
        if (
            job.result_version is not None
            and job.result_version.status == ModelVersion.Status.READY
        ):
            self._score(job.result_version)  # an earlier attempt died before it completed the job
            return
        self._foresee()
        progress.enter("verifying")
        verify_inputs(job)
        self._check_disk()
        template.check(job, self.lease)
        labels.settle(job.dataset)
        version = None
        if job.reproduces is None:
            version = ride_out(lambda: queue.attach_version(job, self.lease, self.config))
        for leftover in paths.staging_dirs(f"job-{job.pk}"):  # of an attempt that was killed
            artifacts.discard(leftover)
        output = paths.staging_dir(f"job-{job.pk}")
        # A halved batch has its own folder: checkpoints of the larger one cannot be used.
        halved = "" if job.batch_size_before is None else f"-batch-{job.config['batch_size']}"
        checkpoints = paths.job_dir(job.pk) / f"checkpoints{halved}"
        checkpoints.mkdir(parents=True, exist_ok=True)
        progress.enter("preparing")
        metrics = self._train(
            TrainingRun(
                base=registration.base_path(job.base_model),
                data=snapshots.dataset_path(job.dataset),
                output=output,
                checkpoints=checkpoints,
                config=self.config,
                cache=paths.tokens_dir(job.dataset.checksum),
                budget_bytes=settings.MEMORY_BUDGET_BYTES,
            )
        )
        if version is None:
            progress.enter("comparing")
            reproduction.conclude(job, output, metrics)
            return
        progress.enter("publishing")
        ride_out(lambda: lifecycle.complete_version(version, output, metrics))
        self._score(version)

    def _foresee(self) -> None:
        """Until this job has measured something: what a similar one took."""
        if not self.job.durations:
            watch = timing.Stopwatch(self.job.base_model, self.job.dataset)
            if found := watch(self.config):
                self.progress.expect(found.durations)

    def _check_disk(self) -> None:
        """Raises NoSpace when the checkpoints and the result would not fit."""
        size = estimate.Dimensions.read(registration.base_path(self.job.base_model))
        need = estimate.disk_bytes(size, self.config) + _DISK_MARGIN
        free = shutil.disk_usage(paths.root()).free
        if free < need:
            raise NoSpace(
                f"Training needs about {human(need)} on the disk of {paths.root()}, but only "
                f"{human(free)} are free. Free some space and retry the job."
            )

    def _train(self, training: TrainingRun) -> dict[str, float]:
        """Run the backend until it finishes, or until the first step after a stop request."""
        metrics: dict[str, float] = {}
        pace = Pace(self.progress.hold, self._check_requests)
        try:
            # Closing the generator saves a checkpoint of the last step, whatever is raised here.
            with closing(get_backend(settings.BACKEND).train(training)) as events:
                for event in events:
                    self.progress.record(event)
                    if isinstance(event, Started):
                        log.info(
                            "training",
                            iteration=event.iteration,
                            trainable=event.trainable_parameters,
                        )
                        for note in event.notes:
                            log.warning("answers not learned as asked", note=note)
                    elif isinstance(event, Finished):
                        metrics = event.metrics
                    self._check_requests()
                    pace.after(event)
        except (Stopped, Cancelled, Paused):
            self.progress.saved()
            raise
        return metrics

    def _check_requests(self) -> None:
        """Raises Stopped, Cancelled or Paused when that was requested."""
        try:
            if reason := self._stop_reason():
                raise Stopped(reason)
            ride_out(self._check_row)
        except (Stopped, Cancelled, Paused):
            self.progress.enter("saving")
            raise

    def _check_row(self) -> None:
        """Raises Cancelled or Paused when the row asks for it, LeaseLost when it is not ours."""
        row = (
            TrainingJob.objects.held(self.job.pk, self.lease)
            .values_list("cancel_requested", "paused")
            .first()
        )
        if row is None:
            raise LeaseLost(f"Job {self.job.pk} is no longer held by lease {self.lease}.")
        cancel_requested, paused = row
        if cancel_requested:
            raise Cancelled
        if paused:
            raise Paused

    def _score(self, version: ModelVersion) -> None:
        """Score the version, which is ready and stays so: a cancel ends only the scoring."""

        def halt_reason() -> str:
            if reason := self._stop_reason():
                raise Stopped(reason)
            try:
                ride_out(self._check_row)
            except Cancelled:
                return "Scoring was cancelled; the version is ready."
            return ""

        scoring.score_version(self.job, version, self.progress.enter, halt_reason)
        self.progress.enter("completing")


def verify_inputs(job: TrainingJob) -> None:
    """Read the base model and the data set in full. Raises Damaged when either has changed."""
    base, dataset = job.base_model, job.dataset
    for folder, recorded, what in (
        (registration.base_path(base), base.manifest_sha256, f"Base model {base.name}"),
        (snapshots.dataset_path(dataset), dataset.checksum, f"Data set {dataset.name}"),
    ):
        require_sound(folder, recorded, what, "Register it again.")


def orphaned() -> bool:
    """Whether the worker that started this process is gone, so another may start the job again."""
    worker = os.environ.get("HUB_WORKER_PID")
    return worker is not None and os.getppid() != int(worker)
