"""What is proposed on the page that leads from examples to a trained model, and what is chosen there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django import forms
from django.db.models import QuerySet
from pydantic import ValidationError

from backends.base import TrainingConfig
from backends.scorers import NoAnswer, question
from registry.bases.bundled import starter_gguf
from registry.bases.registration import STARTER
from registry.catalog.registration import check_model_name
from registry.datasets.preview import Preview
from registry.datasets.snapshots import read_examples
from registry.errors import HubError, NotFound
from registry.models import BaseModel, Dataset, Model
from registry.names import validate_name
from training.config.vocabulary import PRESETS, nest
from training.memory.fitting import Fit, fit, propose

FIELDS = ("model", "dataset", "task_type", "base", "preset")
_BASES = 50  # the newest
_LOOKED_AT = 5  # examples whose answers say the task
_CHARACTERS = 4  # of a token, in English
_MANY = 20  # passes over the examples, which usually are too many


@dataclass(frozen=True)
class Examples:
    """What is known of examples, whether they are a data set yet or not. `longest` is in characters;
    `judged` says which labels good or bad answers have."""

    format: str
    train: int
    longest: int = 0
    task_type: str = "chat"
    one_label: str = ""
    dataset: Dataset | None = None

    @classmethod
    def of_preview(cls, seen: Preview) -> Examples:
        rows = [sample.becomes for sample in seen.samples if sample.becomes]
        train = seen.splits.get("train", 0)
        return cls(seen.format, train, seen.longest, _task(bool(seen.labels), rows))

    @classmethod
    def of_dataset(cls, dataset: Dataset) -> Examples:
        rows: list[dict[str, Any]] = []
        with suppress(HubError, OSError):
            rows = read_examples(dataset, "train", limit=_LOOKED_AT)
        return cls(
            dataset.format,
            int(dataset.splits.get("train", 0)),
            int(dataset.token_stats.get("longest_characters") or 0),
            _task(bool(dataset.labels), rows),
            dataset.one_label,
            dataset,
        )


def _task(labels: bool, rows: Iterable[Mapping[str, Any]]) -> str:
    """The task that the answers fit: labels, JSON objects, or else anything."""
    if labels:
        return Model.TaskType.CLASSIFICATION
    answers = [_answer(row) for row in rows]
    return Model.TaskType.EXTRACTION if answers and all(answers) else Model.TaskType.CHAT


def _answer(row: Mapping[str, Any]) -> bool:
    """Whether the answer of an example is a JSON object."""
    try:
        return isinstance(json.loads(question(row).expected), dict)
    except (NoAnswer, ValueError, KeyError, TypeError):
        return False


# ---------------------------------------------------------------- presets


@dataclass(frozen=True)
class Preset:
    """A preset as these examples can be trained with it."""

    name: str
    title: str
    summary: str
    config: TrainingConfig
    examples: int
    cuts: bool  # the longest examples

    @property
    def passes(self) -> float:
        """How often each example is seen."""
        config = self.config
        seen = config.iters * config.batch_size * config.grad_accumulation_steps
        return seen / (self.examples or 1)

    @property
    def sentence(self) -> str:
        """For a person: how often each example is seen, and whether the longest are cut."""
        if self.passes < 1:
            seen = f"Sees about {self.passes:.0%} of the examples."
        else:
            times = "once" if self.passes < 1.5 else f"about {self.passes:.0f} times"
            much = " That is a lot for so few examples." if self.passes > _MANY else ""
            seen = f"Sees each example {times}.{much}"
        limit = f"{self.config.max_seq_length:,} tokens"
        return f"{seen} Cuts examples at {limit}." if self.cuts else seen


def presets(examples: Examples) -> dict[str, Preset]:
    """The presets that fit the examples, by name; the first one is proposed."""
    found = {}
    for name, (title, summary, flat) in PRESETS.items():
        if (name == "preferences") == (examples.format == Dataset.Format.PREFERENCE) or name in (
            "trial",
            "thorough",
            "small-memory",
        ):
            config = _config(flat, examples)
            if config is not None:
                cuts = examples.longest > _CHARACTERS * config.max_seq_length
                found[name] = Preset(name, title, summary, config, examples.train, cuts)
    usual = [name for name in ("balanced", "preferences") if name in found]
    return {name: found[name] for name in (*usual, *(n for n in found if n not in usual))}


def _config(flat: Mapping[str, Any], examples: Examples) -> TrainingConfig | None:
    """The settings of a preset, with the objective that the examples need and a batch that they
    fill; None where these do not go together."""
    settings = dict(flat)
    if examples.format in (Dataset.Format.PREFERENCE, Dataset.Format.LABELLED):
        judged = PRESETS["preferences"][2]
        settings = {**judged, **settings, "learning_rate": judged["learning_rate"]}
    if examples.format == Dataset.Format.LABELLED:
        # Good answers alone are learned as answers.
        good = examples.one_label == "true"
        settings |= {"objective": "sft" if good else "kto"}
    try:
        config = TrainingConfig.model_validate(nest(settings))
        batch = min(config.batch_size, max(1, examples.train))
        return TrainingConfig.model_validate(config.model_dump() | {"batch_size": batch})
    except ValidationError:
        return None


# ---------------------------------------------------------------- base models


def bases(examples: Examples, config: TrainingConfig) -> list[Fit]:
    """The base models that can be trained, each with what that needs: the proposed one first, then
    those that fit, the largest first. The bundled one is there before it is registered."""
    rows = list(BaseModel.objects.filter(pooling="").order_by("-created_at")[:_BASES])
    if not BaseModel.objects.filter(name__iexact=STARTER).exists():
        with suppress(NotFound):
            size = starter_gguf().stat().st_size
            rows.append(BaseModel(name=STARTER, source=BaseModel.Source.STARTER, size_bytes=size))
    found = [fit(row, config, examples.dataset, examples.longest) for row in rows]
    first = propose(found)
    return sorted(
        found, key=lambda one: (one.base is not first, not one.fits, -one.base.parameters)
    )


# ---------------------------------------------------------------- the form


class GuideForm(forms.Form):
    """The choices; what they may be is said by whoever shows them."""

    model = forms.CharField(
        label="Model name",
        max_length=100,
        help_text="Clients ask for it by this name.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    dataset = forms.CharField(
        label="Data set name",
        max_length=100,
        validators=[validate_name],
        help_text="A known name gets its next revision.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    task_type = forms.ChoiceField(
        label="Task",
        choices=Model.TaskType.choices,
        help_text="Decides how the result is scored and tried.",
    )

    def clean_model(self) -> str:
        name: str = self.cleaned_data["model"]
        try:
            check_model_name(name)
        except HubError as error:
            raise forms.ValidationError(str(error)) from error
        return name


def proposed_names(stem: str) -> dict[str, str]:
    """Names for the model and the data set that nothing has yet."""
    return {
        "model": _free(stem or "my-model", Model.objects.all()),
        "dataset": _free(stem or "my-examples", Dataset.objects.all()),
    }


def _free(stem: str, rows: QuerySet[Any]) -> str:
    """`stem`, or the first of stem-2, stem-3, … that no row has."""
    taken = {
        name.lower() for name in rows.filter(name__istartswith=stem).values_list("name", flat=True)
    }
    name, number = stem, 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}"
    return name
