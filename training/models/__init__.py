"""Training jobs, how they are set up, their sweeps and what they measured."""

from __future__ import annotations

from training.models.attempts import TrainingAttempt
from training.models.jobs import TrainingJob, TrainingJobQuerySet
from training.models.leases import START_LIMIT, STARTING, LeaseLost
from training.models.measured import MetricSpan, TrainingMetric, TrainingSample
from training.models.setups import Setup
from training.models.sweeps import Sweep

__all__ = [
    "STARTING",
    "START_LIMIT",
    "LeaseLost",
    "MetricSpan",
    "Setup",
    "Sweep",
    "TrainingAttempt",
    "TrainingJob",
    "TrainingJobQuerySet",
    "TrainingMetric",
    "TrainingSample",
]
