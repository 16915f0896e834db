"""Training jobs, their sweeps and what they measured."""

from __future__ import annotations

from training.models.jobs import TrainingJob, TrainingJobQuerySet
from training.models.leases import LeaseLost
from training.models.measured import TrainingMetric, TrainingSample
from training.models.sweeps import Sweep

__all__ = [
    "LeaseLost",
    "Sweep",
    "TrainingJob",
    "TrainingJobQuerySet",
    "TrainingMetric",
    "TrainingSample",
]
