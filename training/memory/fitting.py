"""Which base models can be trained here, and which one is best to start with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backends import devices
from backends.base import TrainingConfig
from registry.models import BaseModel, Dataset
from registry.storage.sizes import human
from training.memory.measured import Estimator, budget_bytes


@dataclass(frozen=True)
class Fit:
    """A base model and the bytes that training it would need; None when that is not known, since it
    cannot be read or is not registered yet."""

    base: BaseModel
    nbytes: int | None = None

    @property
    def fits(self) -> bool:
        """Whether that is within the memory budget, as far as it is known."""
        return self.nbytes is None or self.nbytes <= budget_bytes()

    @property
    def sentence(self) -> str:
        """For a person."""
        if self.nbytes is None:
            return "" if self.base.pk is None else "Its files cannot be read; register it again."
        need, budget = human(self.nbytes), human(budget_bytes())
        if self.fits:
            return f"Training needs about {need} of {budget}."
        return f"Too large for this machine: training needs about {need} of {budget}."


def fit(
    base: BaseModel, config: TrainingConfig, dataset: Dataset | None = None, characters: int = 0
) -> Fit:
    """What training `base` needs on a data set, or on examples of which the longest has so many
    characters."""
    if base.pk is None:
        return Fit(base)
    try:
        return Fit(base, Estimator(base, dataset, characters)(config).nbytes)
    except (OSError, ValueError):
        return Fit(base)


def propose(found: Iterable[Fit]) -> BaseModel | None:
    """The base model to begin with: on a GPU the largest that fits; on a CPU, where time and not
    memory is short, the smallest. None when none fits."""
    known = [one for one in found if one.fits and (one.nbytes is not None or one.base.pk is None)]
    ranked = sorted(known, key=lambda one: (one.base.parameters, one.base.name))
    if not ranked:
        return None
    return (ranked[0] if devices.expected() == "cpu" else ranked[-1]).base
