"""Whether a run fits into memory: now, later when the engine frees some, or never."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
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

RECHECK_S = 15.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Plan:
    """How a run fits. `verdict`: it fits "now"; it "waits" until the engine's models free memory; or
    it "never" fits the budget. `advice` says which change would make it fit, if one is needed.
    """

    estimate: Estimate
    budget_bytes: int
    held_bytes: int  # by the engine's models
    verdict: Literal["now", "waits", "never"]
    advice: str
    packing: str = ""  # whether it is faster with these lengths; empty where they are not known

    @property
    def sentence(self) -> str:
        """For a person: what the run needs, what is available, and what to change."""
        needs = f"about {human(self.estimate.nbytes)}"
        budget = human(self.budget_bytes)
        if self.verdict == "now":
            return f"Needs {needs} of {budget}."
        if self.verdict == "never":
            return f"Needs {needs}, but the whole memory budget is {budget}. {self.advice}"
        return (
            f"Waiting for memory: needs {needs} of {budget}, but active or pinned models hold "
            f"{human(self.held_bytes)}. {self.advice}"
        )


def foresee(model: Model, dataset: Dataset, config: TrainingConfig) -> Plan:
    """How a run would fit, for the form. Idle models count as free, since training may evict them.

    Raises Damaged when the base model's folder cannot be read.
    """
    try:
        estimator = Estimator(model.base_model, dataset)
    except (OSError, ValueError) as error:
        name = model.base_model.name
        raise Damaged(f"The base model {name} cannot be read; register it again.") from error
    plan = _plan(estimator, config, neighbours.present().busy_bytes())
    return replace(plan, packing=estimator.packing(config))


def admit(job: TrainingJob) -> bool:
    """Whether the queued `job` fits into memory now; idle models of the engine are evicted for it.

    A job that does not fit now waits and shows why; a job that can never fit fails. Either way its
    row gets the estimate.
    """
    try:
        config = job.training_config
        estimator = Estimator(job.base_model, job.dataset)
        estimate = estimator(config)
    except (OSError, ValueError) as error:
        # The attempt itself finds and explains a damaged base model or configuration.
        log.warning("memory not estimated", job=job.pk, error=str(error))
        return True
    TrainingJob.objects.filter(pk=job.pk).update(**estimate.columns)
    plan = _plan(estimator, config, _make_room(job, estimate.nbytes))
    if plan.verdict == "never":
        queue.refuse(job, plan.sentence)
    elif plan.verdict == "waits":
        TrainingJob.objects.filter(pk=job.pk, status=TrainingJob.Status.QUEUED).update(
            wait_reason=plan.sentence,
            not_before=timezone.now() + datetime.timedelta(seconds=RECHECK_S),
        )
        queue.ring(RECHECK_S)
        log.info("job waits for memory", job=job.pk, reason=plan.sentence)
    return plan.verdict == "now"


def _plan(estimator: Estimator, config: TrainingConfig, held: int) -> Plan:
    estimate, budget = estimator(config), budget_bytes()
    if estimate.nbytes > budget:
        return Plan(estimate, budget, held, "never", estimator.advice(config, budget))
    if estimate.nbytes > budget - held:
        return Plan(estimate, budget, held, "waits", estimator.advice(config, budget - held))
    return Plan(estimate, budget, held, "now", "")


def _make_room(job: TrainingJob, needed: int) -> int:
    """Bytes that the engine holds after evicting idle models, if that was needed. For a job that ran
    out of memory all idle models go, because its estimate was too low."""
    engine = neighbours.present()
    held = engine.held_bytes()
    missing = held if job.out_of_memory else held + needed - budget_bytes()
    if not held or missing <= 0 or needed > budget_bytes():
        return held
    if evicted := engine.make_room(missing):
        log.info("models evicted for training", job=job.pk, models=evicted)
    return engine.held_bytes()
