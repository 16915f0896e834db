"""From examples to a queued job in one go: data set, base model, model and job, in this order.

The work runs where it is called when it is short, else in a child of the web process. Each step's
result is kept in the row, so that a retry continues after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from backends.base import TrainingConfig
from registry.background import work
from registry.background.progress import Progress
from registry.bases.registration import STARTER, find_base, register_starter
from registry.catalog.registration import check_model_name, new_model, register_model
from registry.datasets import snapshots, uploads
from registry.datasets.tasks import AT_ONCE
from registry.errors import HubError, NotFound
from registry.models import BaseModel, Dataset, Model
from training.config import rules
from training.models import Setup, TrainingJob
from training.queue.entry import enqueue


@dataclass(frozen=True)
class Chosen:
    """What a person chose. `base` names a base model; the bundled one need not be registered yet.
    `dataset`, `description` and `columns` are for an upload that becomes a data set."""

    model: str
    base: str
    task_type: str
    config: Mapping[str, Any]
    dataset: str = ""
    description: str = ""
    columns: Mapping[str, str] | None = None


def start(chosen: Chosen, source: uploads.Saved | Dataset) -> Setup:
    """Set up a model on an upload or a data set: at once when that is short, else in a child.

    Raises Invalid, Conflict and NotFound for what can be seen before anything is made. What goes
    wrong later is in the row.
    """
    _check(chosen, source)
    setup = Setup(name=chosen.model, options=asdict(chosen))
    if isinstance(source, Dataset):
        setup.source, setup.dataset = str(source), source
    else:
        setup.source, setup.staged = source.origin[:500], source.key
    work.add(setup)
    if not _is_short(chosen, source):
        return work.launch(setup)
    try:
        run(setup)
    except HubError:
        if setup.dataset is None:
            setup.delete()  # nothing was made, so the form says it
            raise
    return setup


def earlier(staged: str) -> Setup | None:
    """The setup that took this upload, if any."""
    return Setup.objects.up_to_date().filter(staged=staged).first()


def _check(chosen: Chosen, source: uploads.Saved | Dataset) -> None:
    if isinstance(source, uploads.Saved):
        snapshots.check(chosen.dataset, chosen.columns)
    base = BaseModel.objects.filter(name__iexact=chosen.base).first()
    if base is None and chosen.base != STARTER:
        find_base(chosen.base)  # says which there are
    if base is None:
        check_model_name(chosen.model)
        return
    model = new_model(chosen.model, base, chosen.task_type)
    if isinstance(source, Dataset):
        rules.check(model, source, TrainingConfig.model_validate(chosen.config))


def _is_short(chosen: Chosen, source: uploads.Saved | Dataset) -> bool:
    """Whether a person can wait for it: a base model is imported in a child, and so are many
    examples read."""
    if not BaseModel.objects.filter(name__iexact=chosen.base).exists():
        return False
    if isinstance(source, Dataset):
        return True
    return uploads.size_of(source.source, nested=source.hub) <= AT_ONCE


def run(setup: Setup) -> TrainingJob:
    """Do the work of a running row. Raises what went wrong after the row says it, too."""
    with work.doing(setup) as progress:
        chosen = Chosen(**setup.options)
        dataset = _dataset(setup, chosen, progress)
        base = _base(chosen.base, progress)
        config = TrainingConfig.model_validate(chosen.config)
        progress.stage("Queueing the job")
        model = setup.model or _model(setup, chosen, base, dataset, config)
        job = enqueue(model, dataset, config)
        setup.complete(job=job)
    return job


def _dataset(setup: Setup, chosen: Chosen, progress: Progress) -> Dataset:
    if setup.dataset is not None:
        return setup.dataset
    if not setup.staged:
        raise NotFound("The data set no longer exists; start with another one.")
    progress.stage("Reading the examples")
    saved = uploads.staged(setup.staged)
    setup.dataset = snapshots.register_dataset(
        chosen.dataset,
        saved.source,
        chosen.description,
        origin=saved.origin,
        columns=chosen.columns,
        progress=progress,
        names=saved.names,
        hub=saved.hub,
    )
    setup.write(dataset=setup.dataset)
    uploads.discard(saved)
    return setup.dataset


def _base(name: str, progress: Progress) -> BaseModel:
    if not BaseModel.objects.filter(name__iexact=name).exists() and name == STARTER:
        progress.stage(f"Preparing {STARTER}")
        return register_starter()
    return find_base(name)


def _model(
    setup: Setup, chosen: Chosen, base: BaseModel, dataset: Dataset, config: TrainingConfig
) -> Model:
    # A model that could not be trained is not made.
    rules.check(new_model(chosen.model, base, chosen.task_type), dataset, config)
    setup.model = register_model(chosen.model, base, chosen.task_type)
    setup.write(model=setup.model)
    return setup.model
