"""How long a run will take, by what earlier jobs on the same base model measured on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backends.base import TrainingConfig
from backends.schedule import examples_per_step, measured
from registry.models import BaseModel, Dataset
from registry.storage.sizes import about
from training.config import rules
from training.models import TrainingJob
from training.models.remaining import validations

_LOOKED_AT = 30  # of the newest jobs on a base model
_ALIKE = ("fine_tune_type", "num_layers", "objective", "grad_checkpoint", "packing", "arithmetic")
"""Settings that change how long the same tokens take."""


@dataclass(frozen=True)
class Times:
    """Expected seconds of each part of a run, as `TrainingJob.durations` has them; `source` is the job
    that measured them, which is `alike` when it had the settings that decide how fast a step is."""

    durations: dict[str, float]
    source: TrainingJob
    alike: bool

    def total(self, config: TrainingConfig, steps: int) -> float:
        """Seconds from the process's start to the version's scores."""
        known = self.durations
        checks = validations(0, steps, config.steps_per_eval)
        once = sum(known.get(part, 0.0) for part in ("start", "test", "publishing", "scoring"))
        return once + steps * known["step"] + checks * known.get("validation", 0.0)


class Stopwatch:
    """Forecasts for runs of one base model on one data set; the earlier jobs are read once."""

    def __init__(self, base: BaseModel, dataset: Dataset) -> None:
        self._dataset = dataset
        measured = TrainingJob.objects.filter(
            model__base_model=base, status=TrainingJob.Status.COMPLETED, reproduces=None
        ).exclude(durations={})
        newest = measured.select_related("dataset").order_by("-completed_at")[:_LOOKED_AT]
        self._earlier = [job for job in newest if job.durations.get("step")]

    def __call__(self, config: TrainingConfig) -> Times | None:
        """None when no job on the base model was completed and measured."""
        if not self._earlier:
            return None
        alike = (job for job in self._earlier if _is_alike(job.training_config, config))
        source = next(alike, None)
        found = source or self._earlier[0]
        return Times(self._scaled(found, config), found, source is not None)

    def _scaled(self, job: TrainingJob, config: TrainingConfig) -> dict[str, float]:
        """What `job` measured, for as many and as long examples as this run has."""
        known, was = job.durations, job.training_config
        longer = _length(self._dataset, config) / _length(job.dataset, was)
        wider = examples_per_step(config) / examples_per_step(was)
        factors = {
            "step": wider * longer,
            "validation": longer * self._more(job, config, "valid"),
            "test": longer * self._more(job, config, "test"),
            "scoring": _scored(self._dataset, config) / (_scored(job.dataset, was) or 1),
        }
        return {part: seconds * factors.get(part, 1.0) for part, seconds in known.items()}

    def _more(self, job: TrainingJob, config: TrainingConfig, split: str) -> float:
        """How many more examples of a split the loss is measured on."""
        before = _measured(job.dataset, job.training_config, split)
        return _measured(self._dataset, config, split) / (before or 1)


def forecast(base: BaseModel, dataset: Dataset, configs: Sequence[TrainingConfig]) -> str:
    """How long all these runs take one after another, and how that is known, as a sentence."""
    watch = Stopwatch(base, dataset)
    found = [(config, watch(config)) for config in configs]
    times = [
        (known, known.total(config, rules.steps(dataset, config)))
        for config, known in found
        if known is not None
    ]
    if not times:
        return f"Not known before a first job on {base.name} has run."
    whole = about(sum(seconds for _, seconds in times))
    source = times[0][0].source
    if all(known.alike for known, _ in times):
        return f"{whole[0].upper()}{whole[1:]}, by what job {source.pk} took."
    return f"Very roughly {whole.removeprefix('about ')}: job {source.pk} had other settings."


def _is_alike(one: TrainingConfig, other: TrainingConfig) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in _ALIKE)


def _length(dataset: Dataset, config: TrainingConfig) -> float:
    """Of an example, in characters: only its ratio to another one counts."""
    characters = float(dataset.token_stats.get("characters_per_example") or 1.0)
    return max(1.0, min(characters, 4.0 * config.max_seq_length))


def _measured(dataset: Dataset, config: TrainingConfig, split: str) -> int:
    return len(measured(int(dataset.splits.get(split, 0)), config))


def _scored(dataset: Dataset, config: TrainingConfig) -> int:
    if config.scoring.scorer == "none":
        return 0
    return min(config.scoring.examples, int(dataset.splits.get("test", 0)))
