"""What a running job writes to the database: heartbeats, progress, metrics.

A heartbeat is written only when the backend has really done something, so a process that hangs
stops sending them. How long a gap is normal depends on the stage: loading a base model or
evaluating a batch may take very long, a step about as long as the steps before it. So each
heartbeat says when the next one is due, and the reaper only compares that with the clock.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from backends.base import (
    Checkpointed,
    Evaluated,
    Evaluating,
    Finished,
    Sampled,
    Started,
    Stepped,
    Tokenizing,
    TrainingConfig,
    TrainingEvent,
)
from registry.versions import curves
from training.attempt.phases import Phases
from training.models import TrainingJob, TrainingMetric, TrainingSample
from training.queue import tracking
from training.queue.outage import ride_out

WRITE_EVERY_S = 1.0
_LONG_STAGE = 20  # heartbeat timeouts that a stage without steps may take
_SLOW_STEP = 10  # times the slowest step so far that a step may take
_RECENT = 20  # steps whose mean duration is that of the next ones
_TIMED = ("publishing", "scoring")  # stages without steps whose duration is kept

_MEASURED = (
    "train_loss",
    "val_loss",
    "learning_rate",
    "grad_norm",
    "tokens_per_second",
    "peak_memory_bytes",
    "created_at",
)

type Measured = dict[str, float | datetime | None]


class Progress:
    """Turns a run's events into rows, with at most one write a second. Any write can raise
    LeaseLost."""

    def __init__(self, job: TrainingJob, lease: uuid.UUID, config: TrainingConfig) -> None:
        self._job, self._lease, self._config = job, lease, config
        self._stage = job.stage
        self._phases = Phases(job.phases, job.process_started or time.time())
        self._columns: dict[str, Any] = {}
        self._rows: dict[int, Measured] = {}
        self._unwritten: set[int] = set()
        self._written_to = job.iteration  # no row of a later step exists
        self._samples: list[Sampled] = []
        self._iters = job.total_iters
        self._iteration = 0  # the last step of this process
        self._summarized = 0  # the step at which spans were last written
        self._yielded = job.yielded_s
        self._holding: datetime | None = None
        self._written_at = self._event_at = time.monotonic()
        self._slowest_step = 0.0
        self._stage_since = job.stage_since or timezone.now()
        self._durations: dict[str, float] = dict(job.durations)
        self._steps: deque[float] = deque(maxlen=_RECENT)
        self._began_at = self._mark = time.monotonic()  # of the process, of what is being timed

    @property
    def patience_s(self) -> float:
        """Seconds from now until the next heartbeat is due."""
        timeout = float(settings.HEARTBEAT_TIMEOUT_S)
        if self._stage == "training":
            return max(timeout, _SLOW_STEP * self._slowest_step)
        return _LONG_STAGE * timeout

    def enter(self, stage: str) -> None:
        """Start a stage that has no steps, and write it at once."""
        self._turn(self._stage, stage)
        self._stage = stage
        self._columns["phases"] = self._phases.enter(stage)
        self.write()

    def expect(self, durations: dict[str, float]) -> None:
        """How long the parts of the run will take, until it has measured them."""
        self._durations = durations | self._durations

    def _turn(self, old: str, new: str) -> bool:
        """Whether another stage begins (`scoring 3 of 9` continues `scoring 2 of 9`); the time that
        the old one took is kept."""
        ended = old.split(" ")[0]
        if ended == new.split(" ")[0]:
            return False
        now = timezone.now()
        if ended in _TIMED:
            self._durations[ended] = (now - self._stage_since).total_seconds()
        self._stage_since = now
        return True

    def record(self, event: TrainingEvent) -> None:
        """Record an event; write when a second has passed or the event is important."""
        stage = self._stage
        match event:
            case Tokenizing():
                percent = 100 * event.done // max(1, event.total)
                self._stage = f"tokenizing {event.split}, {percent} %"
            case Started():
                self._stage = "preparing"
                self._iters = event.iters
                self._resume_at(event.iteration)
            case Stepped():
                self._step(event)
            case Evaluating():
                self._stage = f"evaluating {event.done} of {event.total}"
                self._event_at = time.monotonic()  # an evaluation is not a step
            case Evaluated():
                self._evaluation(event)
            case Sampled():
                self._samples.append(event)
                self._event_at = time.monotonic()  # sampling is not a step
            case Checkpointed():
                self._columns |= {"checkpoint_iteration": event.iteration, "crashes": 0}
        self._time(event)
        if entered := self._turn(stage, self._stage):
            self._columns["phases"] = self._phases.enter(self._stage)
        urgent = isinstance(event, Checkpointed | Finished) or entered
        if urgent or time.monotonic() - self._written_at >= WRITE_EVERY_S:
            self.write()

    def end(self) -> None:
        """The attempt is over, however it ended: write how long its last phase took."""
        phases = self._phases.enter("")
        ride_out(lambda: self._job.write_held(self._lease, phases=phases))

    def _time(self, event: TrainingEvent) -> None:
        """Keep how long the parts of the run take."""
        now, known = time.monotonic(), self._durations
        match event:
            case Stepped() if self._steps:
                known["step"] = sum(self._steps) / len(self._steps)
            case Evaluated(split="test", adapter=False):
                known["test"] = now - self._mark
            case Evaluated(split="valid"):
                known["validation"] = now - self._mark
            case Sampled() if self._iteration:
                known["validation"] += now - self._mark  # the samples are part of it
        if isinstance(event, Started | Stepped | Evaluated | Sampled | Checkpointed):
            self._mark = now

    def saved(self) -> None:
        """The run was closed early and has saved a checkpoint of its last step."""
        if self._iteration:
            self._columns |= {"checkpoint_iteration": self._iteration}
        self.write()

    def hold(self, reason: str, seconds: float) -> None:
        """Training waits because of `reason` (empty: it continues), and has waited `seconds` since
        the last call. This counts as a heartbeat, too."""
        self._yielded += seconds
        self._mark += seconds
        if reason and self._holding is None:
            self._holding = timezone.now()
        elif not reason:
            self._holding = None
        self._columns |= {
            "yielding": reason,
            "yielding_since": self._holding,
            "yielded_s": self._yielded,
        }
        self._event_at = time.monotonic()  # waiting is not a step
        if time.monotonic() - self._written_at >= WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Write heartbeat, columns and rows in one transaction; rides out a short database outage."""
        ride_out(self._write)
        newest = max(self._rows, default=0)  # its evaluation may still follow
        self._written_to = max(self._written_to, newest)
        self._rows = {n: row for n, row in self._rows.items() if n == newest}
        self._unwritten.clear()
        self._samples.clear()
        self._columns.clear()
        self._written_at = time.monotonic()

    def _write(self) -> None:
        with transaction.atomic():
            self._job.beat(
                self._lease,
                self.patience_s,
                stage=self._stage,
                stage_since=self._stage_since,
                durations={part: round(took, 3) for part, took in self._durations.items()},
                **self._columns,
            )
            rows = [
                TrainingMetric(job=self._job, iteration=n, **self._rows[n])
                for n in sorted(self._unwritten)
            ]
            TrainingMetric.objects.bulk_create(
                rows,
                update_conflicts=True,
                unique_fields=["job", "iteration"],
                update_fields=_MEASURED,
            )
            tracking.log_metrics(self._job, rows)
            if self._iteration >= self._summarized + curves.SUMMARIZE_EVERY:
                curves.summarize(self._job)
                self._summarized = self._iteration
            TrainingSample.objects.bulk_create(
                [
                    TrainingSample(
                        job=self._job,
                        iteration=sample.iteration,
                        line=sample.line,
                        prompt=sample.prompt,
                        expected=sample.expected,
                        answer=sample.answer,
                    )
                    for sample in self._samples
                ],
                update_conflicts=True,
                unique_fields=["job", "iteration", "line"],
                update_fields=["prompt", "expected", "answer"],
            )

    def _resume_at(self, iteration: int) -> None:
        """Delete what was measured after the checkpoint; it will be measured again."""

        def rewind() -> None:
            with transaction.atomic():
                self._job.beat(
                    self._lease,
                    self.patience_s,
                    iteration=iteration,
                    checkpoint_iteration=iteration,
                    iters=self._iters,
                )
                self._job.attempts.filter(ended_at=None).update(
                    first_iteration=iteration, iteration=iteration
                )
                self._job.metrics.filter(iteration__gt=iteration).delete()
                self._job.samples.filter(iteration__gt=iteration).delete()
                curves.forget(self._job, iteration)

        ride_out(rewind)
        self._written_to = iteration
        self._event_at = time.monotonic()

    def _step(self, event: Stepped) -> None:
        now = time.monotonic()
        if not self._iteration:  # the first of this process, which compiles kernels
            self._durations["start"] = now - self._began_at
            self._durations.setdefault("step", now - self._event_at)
        else:
            self._steps.append(now - self._event_at)
        self._iteration = event.iteration
        self._slowest_step = max(self._slowest_step, now - self._event_at)
        self._event_at = now
        last = event.iteration >= self._iters
        evaluates = last or event.iteration % self._config.steps_per_eval == 0
        self._stage = "evaluating" if evaluates else "training"
        self._columns |= {
            "iteration": event.iteration,
            "tokens_per_second": event.tokens_per_second,
            "peak_memory_bytes": event.peak_memory_bytes,
        }
        self._row(event.iteration).update(
            train_loss=event.train_loss,
            learning_rate=event.learning_rate,
            grad_norm=event.grad_norm,
            tokens_per_second=event.tokens_per_second,
            peak_memory_bytes=event.peak_memory_bytes,
        )

    def _evaluation(self, event: Evaluated) -> None:
        self._event_at = time.monotonic()  # an evaluation is not a step
        if event.split == "valid" and event.adapter:
            self._row(event.iteration)["val_loss"] = event.loss
        if event.iteration >= self._iters:
            self._stage = "evaluating"  # the test split follows, but no more steps
        elif self._iteration:
            self._stage = "training"
        else:  # the first step of a process compiles kernels, so it may take longer
            self._stage = "preparing"

    def _row(self, iteration: int) -> Measured:
        """The iteration's measurements so far; an upsert must not erase what an earlier one wrote."""
        self._unwritten.add(iteration)
        if iteration not in self._rows:
            written: Measured | None = None
            if iteration <= self._written_to:
                written = ride_out(
                    lambda: self._job.metrics.filter(iteration=iteration).values(*_MEASURED).first()
                )
            self._rows[iteration] = written or {
                **dict.fromkeys(_MEASURED),
                "created_at": timezone.now(),
            }
        return self._rows[iteration]
