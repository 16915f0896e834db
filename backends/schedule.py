"""How many steps a run takes, and the learning rate of each."""

from __future__ import annotations

import math

from backends.base import TrainingConfig


def resolved(config: TrainingConfig, steps_per_epoch: int) -> TrainingConfig:
    """`config` with `iters` instead of `epochs`, and a warm-up that ends before the run does."""
    if config.epochs is None:
        return config
    iters = max(1, math.ceil(config.epochs * steps_per_epoch - 1e-9))
    warmup = min(config.warmup, iters - 1)
    return config.model_copy(update={"iters": iters, "warmup": warmup, "epochs": None})


def learning_rate(config: TrainingConfig, iteration: int) -> float:
    """The rate of the optimizer step `iteration` (from 1): linear warm-up, then the schedule.

    Cosine and linear fall to zero one step after the last, so no step is wasted on a zero rate.
    """
    if iteration <= config.warmup:
        return config.learning_rate * iteration / (config.warmup + 1)
    done = (iteration - config.warmup - 1) / max(1, config.iters - config.warmup)
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    if config.schedule == "linear":
        return config.learning_rate * (1 - done)
    return config.learning_rate
