"""A preview of the form while it is being filled in: how many jobs, what they need, what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django import forms

from backends.base import TrainingConfig
from registry.errors import HubError
from registry.models import Dataset, Model
from registry.storage.sizes import human
from registry.versions import numbering
from training import timing
from training.config import rules
from training.config.learned import learned
from training.config.mistakes import in_labels
from training.config.vocabulary import LABELS, labelled_change
from training.memory import admission
from training.memory.measured import Estimate, Estimator

_PARTS = {
    "weights": "Base model",
    "trained": "Adapter",
    "gradients": "Gradients",
    "optimizer": "Optimizer",
    "activations": "Activations",
    "program": "Program",
}

_ENOUGH_RUNS = 3  # to say how exact estimates are

type Message = tuple[str, str]  # the setting's label or "", a sentence


_LABELS = {"model": "Model", "dataset": "Data set", **LABELS}


@dataclass(frozen=True)
class Part:
    """One part of the memory; `start` and `share` in percent of the bar's width."""

    label: str
    size: str
    start: float
    share: float


@dataclass(frozen=True)
class Need:
    """The memory of the largest job, with a label for each part of the bar."""

    plan: admission.Plan
    parts: list[Part]
    budget_mark: float  # where the budget ends, in percent of the bar's width
    changes: list[Message]  # settings that would fit, and what they need

    @property
    def estimate(self) -> Estimate:
        return self.plan.estimate

    @property
    def needs(self) -> str:
        return human(self.plan.estimate.nbytes)

    @property
    def budget(self) -> str:
        return human(self.plan.budget_bytes)

    @property
    def held(self) -> str:
        return human(self.plan.held_bytes) if self.plan.held_bytes else ""

    @property
    def learned(self) -> str:
        """What the estimate is based on."""
        estimate = self.plan.estimate
        if not estimate.runs:
            return "Calculated: no job like this has been measured here yet."
        jobs = f"{estimate.runs} earlier job{'' if estimate.runs == 1 else 's'}"
        told = f"Adjusted to what {jobs} like this needed here"
        if estimate.error is None or estimate.runs < _ENOUGH_RUNS:
            return f"{told}."
        return f"{told}; such estimates are mostly within {max(1, round(100 * estimate.error))} %."


@dataclass(frozen=True)
class Problem:
    """What prevents queueing: a sentence about a field, whose `place` is its id in the page; both
    empty when it is about none alone."""

    place: str
    label: str
    message: str


@dataclass(frozen=True)
class Forecast:
    """`problems` prevent queueing, `notes` do not."""

    jobs: int = 1
    varied: str = ""  # "2 × 3" of a grid
    steps: str = ""
    examples: str = ""
    learned: str = ""  # what the loss counts
    version: str = ""  # that a single job would create
    time: str = ""  # how long all jobs take
    problems: list[Problem] = field(default_factory=list)
    notes: list[Message] = field(default_factory=list)
    need: Need | None = None
    unknown: str = ""  # why the memory need is unknown
    fields: dict[str, Any] = field(default_factory=dict)  # checked, of what would be queued


def plan(form: forms.Form) -> Forecast:
    """The forecast for a form, bound or unbound."""
    bound = form if form.is_bound else type(form)(_values(form))
    if not form.is_bound:
        bound.fields = form.fields  # offers the same data sets
    bound.is_valid()
    problems = [
        Problem(
            *(
                (bound[name].id_for_label, str(bound[name].label))
                if name != "__all__"
                else ("", "")
            ),
            str(message),
        )
        for name, messages in bound.errors.items()
        for message in messages
    ]
    fields = bound.cleaned_data
    configs: list[TrainingConfig] = fields.get("configs", [])
    model, dataset = fields.get("model"), fields.get("dataset")
    if not configs or model is None or dataset is None:
        return Forecast(problems=problems)
    version = fields.get("version_number", "")
    if not version and len(configs) == 1:
        version = numbering.propose(model, dataset, configs[0].model_dump(mode="json"))
    notes = (note for config in configs for note in rules.advice(model, dataset, config))
    by_setting = {note.setting: note for note in notes}
    need, unknown = _need(model, dataset, configs)
    return Forecast(
        fields=fields,
        jobs=len(configs),
        varied=" × ".join(str(len(values)) for values in fields["grid"].values()),
        steps=_range([rules.steps(dataset, config) for config in configs]),
        examples=_range(
            [
                rules.steps(dataset, config) * config.batch_size * config.grad_accumulation_steps
                for config in configs
            ]
        ),
        learned=" or ".join(dict.fromkeys(learned(dataset, config) for config in configs)),
        version=version,
        time=timing.forecast(model.base_model, dataset, configs),
        problems=problems,
        # One note per setting is enough for a grid.
        notes=[(_LABELS[note.setting], in_labels(note.message)) for note in by_setting.values()],
        need=need,
        unknown=unknown,
    )


def _values(form: forms.Form) -> dict[str, Any]:
    """What a browser would submit if the form were sent unchanged."""
    values = {name: form[name].value() for name in form.fields}
    return {name: value for name, value in values.items() if value not in (None, False)}


def _need(
    model: Model, dataset: Dataset, configs: Sequence[TrainingConfig]
) -> tuple[Need | None, str]:
    """The memory of the largest configuration, or None and why it is unknown."""
    try:
        largest = _largest(model, dataset, configs)
        plan = admission.foresee(model, dataset, largest)
    except HubError as error:
        return None, str(error)
    except (OSError, ValueError):
        return None, f"The base model {model.base_model.name} cannot be read; register it again."
    whole = max(plan.estimate.nbytes, plan.budget_bytes) or 1
    parts: list[Part] = []
    start = 0.0
    for name, nbytes in asdict(plan.estimate.parts).items():
        corrected = nbytes * plan.estimate.correction
        if nbytes:
            share = 100 * corrected / whole
            parts.append(Part(_PARTS[name], human(int(corrected)), start, share))
            start += share
    changes: list[Message] = []
    if plan.verdict != "now":
        room = plan.budget_bytes - (plan.held_bytes if plan.verdict == "waits" else 0)
        changes = [
            (labelled_change(change.settings), human(change.nbytes))
            for change in Estimator(model.base_model, dataset).changes(largest, room)
        ]
    return Need(plan, parts, 100 * plan.budget_bytes / whole, changes), ""


def _largest(model: Model, dataset: Dataset, configs: Sequence[TrainingConfig]) -> TrainingConfig:
    """The configuration that needs the most memory. Those that differ only in settings without an
    effect on memory are estimated once."""
    no_effect = {
        "learning_rate",
        "seed",
        "iters",
        "epochs",
        "warmup",
        "weight_decay",
        "beta",
        "gamma",
    }
    distinct = {config.model_dump_json(exclude=no_effect): config for config in configs}
    if len(distinct) == 1:
        return configs[0]
    estimator = Estimator(model.base_model, dataset)
    return max(distinct.values(), key=lambda config: estimator(config).nbytes)


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"
