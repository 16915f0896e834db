"""Whether a run fits into memory: now, once chats are over, or never."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Literal

import structlog
from django.utils import timezone

from backends.base import TrainingConfig
from registry.errors import Damaged
from registry.models import Dataset, Model
from registry.storage.sizes import human
from training import queue
from training.machine import neighbours
from training.memory.measured import Estimate, Estimator, budget_bytes
from training.models import TrainingJob

LOOK_AGAIN_S = 15.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Plan:
    """How a run fits. `verdict`: it fits "now"; it "waits" until the engine's models give memory
    back; or the budget is "never" enough. `advice` says which change would fit, if one is needed.
    """

    estimate: Estimate
    budget_bytes: int
    held_bytes: int  # by the engine's models
    verdict: Literal["now", "waits", "never"]
    advice: str

    @property
    def sentence(self) -> str:
        """For a person: what it needs, beside what there is, and what to change."""
        needs = f"about {human(self.estimate.nbytes)}"
        budget = human(self.budget_bytes)
        if self.verdict == "now":
            return f"It needs {needs} of {budget}."
        if self.verdict == "never":
            return f"It needs {needs} and the whole memory budget is {budget}. {self.advice}"
        return (
            f"Waits for memory: it needs {needs} of {budget}, of which models that answer requests "
            f"or are pinned hold {human(self.held_bytes)}. {self.advice}"
        )


def foresee(model: Model, dataset: Dataset, config: TrainingConfig) -> Plan:
    """How a run would fit, for the form. Idle models count as free: they make room for training.

    Raises Damaged when the base model's folder cannot be read.
    """
    try:
        estimator = Estimator(model.base_model, dataset)
    except (OSError, ValueError) as error:
        name = model.base_model.name
        raise Damaged(f"The base model {name} cannot be read; register it again.") from error
    return _plan(estimator, config, neighbours.present().busy_bytes())


def admit(job: TrainingJob) -> bool:
    """Whether there is memory for the queued `job`; idle models of the engine make room for it.

    One that cannot fit now waits, and says for what; one that never can is failed. Its row gets
    the estimate either way.
    """
    try:
        config = job.training_config
        estimator = Estimator(job.base_model, job.dataset)
        estimate = estimator(config)
    except (OSError, ValueError) as error:
        # A damaged base or configuration is for the attempt to find and to explain.
        log.warning("memory not estimated", job=job.pk, error=str(error))
        return True
    TrainingJob.objects.filter(pk=job.pk).update(**estimate.columns)
    plan = _plan(estimator, config, _make_room(job, estimate.nbytes))
    if plan.verdict == "never":
        queue.refuse(job, plan.sentence)
    elif plan.verdict == "waits":
        _wait(job, plan.sentence)
    return plan.verdict == "now"


def _plan(estimator: Estimator, config: TrainingConfig, held: int) -> Plan:
    estimate, budget = estimator(config), budget_bytes()
    if estimate.nbytes > budget:
        return Plan(estimate, budget, held, "never", estimator.advice(config, budget))
    if estimate.nbytes > budget - held:
        return Plan(estimate, budget, held, "waits", estimator.advice(config, budget - held))
    return Plan(estimate, budget, held, "now", "")


def _make_room(job: TrainingJob, needed: int) -> int:
    """Bytes that the engine holds, after idle models made room where that was needed. A job that
    ran out of memory gets all that is idle: the estimate was too good for it."""
    engine = neighbours.present()
    held = engine.held_bytes()
    missing = held if job.out_of_memory else held + needed - budget_bytes()
    if not held or missing <= 0 or needed > budget_bytes():
        return held
    if gone := engine.make_room(missing):
        log.info("models evicted for training", job=job.pk, models=gone)
    return engine.held_bytes()


def _wait(job: TrainingJob, reason: str) -> None:
    later = timezone.now() + datetime.timedelta(seconds=LOOK_AGAIN_S)
    waiting = TrainingJob.objects.filter(pk=job.pk, status=TrainingJob.Status.QUEUED)
    waiting.update(wait_reason=reason, not_before=later)
    queue.ring(LOOK_AGAIN_S)
    log.info("job waits", job=job.pk, reason=reason)
