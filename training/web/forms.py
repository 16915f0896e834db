"""The form for a new training job or sweep. `TrainingConfig` and `training.config.rules` validate it;
several values in one field make a sweep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django import forms
from django.db.models import QuerySet
from pydantic import ValidationError

from backends.base import TrainingConfig, as_recorded, in_new_words
from registry.errors import HubError, Invalid
from registry.models import Dataset, Model
from training.config import mistakes, rules
from training.config.changes import with_changes
from training.config.vocabulary import (
    ALL,
    ESSENTIALS,
    GROUPS,
    SETTINGS,
    Setting,
    flatten,
    form_value,
    initial_of,
    nest,
)
from training.models import Sweep, TrainingJob
from training.queue import sweeps
from training.web.fields import CheckField, ChoicesField, NumbersField, RowsField, WordsField


class NewJobForm(forms.Form):
    """A model, a data set and one field for each setting of `TrainingConfig`.

    When valid, `cleaned_data` has `config` (with the first value of each varied setting), `grid`
    (empty for a single job) and `configs`, one per job.
    """

    model = RowsField(Model.objects.filter(archived_at=None).select_related("base_model"))
    dataset = RowsField(Dataset.objects.filter(next=None), label="Data set")
    priority = forms.IntegerField(
        required=False,
        initial=0,
        min_value=-1000,
        max_value=1000,
        help_text="Higher runs first; 0 is normal.",
    )
    version_number = forms.CharField(
        required=False,
        max_length=20,
        label="Version",
        help_text="Your own number above the newest, such as 1.0.0. Empty uses the proposed number.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    name = forms.CharField(
        required=False,
        max_length=100,
        label="Sweep name",
        help_text="Empty uses the names of the varied settings.",
    )

    def __init__(self, *args: Any, earlier: Dataset | None = None, **kwargs: Any) -> None:
        """`earlier` is the data set of a job being repeated; it may be an older revision."""
        super().__init__(*args, **kwargs)
        defaults = initial_of(TrainingConfig().model_dump(mode="json"))
        for setting in SETTINGS:
            self.fields[setting.name] = _field(setting)
            self.fields[setting.name].initial = defaults[setting.name]
        if earlier is not None:
            offered: QuerySet[Dataset] = Dataset.objects.filter(next=None)
            chooser = self.fields["dataset"]
            assert isinstance(chooser, RowsField)
            chooser.queryset = offered | Dataset.objects.filter(pk=earlier.pk)

    @property
    def essentials(self) -> list[forms.BoundField]:
        return [self[setting.name] for setting in ESSENTIALS]

    @property
    def groups(self) -> Iterator[tuple[str, str, list[forms.BoundField], bool]]:
        """Title, summary, fields, and whether the group should be open."""
        for group in GROUPS:
            fields = [self[setting.name] for setting in group.settings]
            yield group.title, group.summary, fields, any(map(_is_special, fields))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        values = {name: cleaned[name] for name in _NAMES if cleaned.get(name) not in ("", None)}
        grid = {name: value for name, value in values.items() if _is_grid(name, value)}
        first = {name: value[0] if name in grid else value for name, value in values.items()}
        config = self._config(first)
        if config is None:
            return cleaned
        try:
            combinations = sweeps.combinations(grid) if grid else [{}]
            configs = [with_changes(config, varied) for varied in combinations]
        except Invalid as error:
            name = mistakes.first_named(str(error))
            self.add_error(name or None, mistakes.in_labels(str(error)))
            return cleaned
        self._check(cleaned.get("model"), cleaned.get("dataset"), configs)
        self._check_number(cleaned.get("model"), cleaned.get("version_number", ""), len(configs))
        return cleaned | {"config": config, "grid": _typed(grid, configs), "configs": configs}

    def _config(self, values: dict[str, Any]) -> TrainingConfig | None:
        """The configuration, or None after adding what is wrong to the fields."""
        try:
            return TrainingConfig.model_validate(nest(values))
        except ValidationError as error:
            for found in error.errors():
                name, sentence = mistakes.explained(found)
                self.add_error(name if name in self.fields else None, sentence)
            return None

    def _check(
        self, model: Model | None, dataset: Dataset | None, configs: list[TrainingConfig]
    ) -> None:
        if model is None or dataset is None:
            return
        found = (p for config in configs for p in rules.problems(model, dataset, config))
        for problem in dict.fromkeys(found):
            name = problem.setting if problem.setting in self.fields else None
            self.add_error(name, mistakes.in_labels(problem.message))

    def _check_number(self, model: Model | None, number: str, jobs: int) -> None:
        if not number:
            return
        if jobs > 1:
            message = (
                f"A sweep creates {jobs} versions, so it cannot use one number; leave this empty."
            )
            self.add_error("version_number", message)
        elif model is not None:
            try:
                rules.check_number(model, number)
            except HubError as error:
                self.add_error("version_number", str(error))


_NAMES = tuple(setting.name for setting in SETTINGS)
_KINDS = {setting.name: setting.kind for setting in SETTINGS}


def repeated(job: TrainingJob) -> dict[str, Any]:
    """Form values to queue the job again."""
    return initial_of(as_recorded(job.config)) | {
        "model": job.model_id,
        "dataset": job.dataset_id,
        "priority": job.priority,
    }


def swept(sweep: Sweep) -> dict[str, Any]:
    """Form values to start the sweep again."""
    varied = _in_new_words(sweep.grid)
    grid = {name: _as_typed(_KINDS.get(name), values) for name, values in varied.items()}
    chosen = {"model": sweep.model_id, "dataset": sweep.dataset_id, "name": sweep.name}
    return initial_of(as_recorded(sweep.config)) | grid | chosen


def _in_new_words(grid: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """A sweep's grid with today's names of settings."""
    renamed: dict[str, list[Any]] = {}
    for name, values in grid.items():
        for value in values:
            for today, meant in in_new_words({name: value}).items():
                renamed.setdefault(today, []).append(meant)
    return renamed


def _field(setting: Setting) -> forms.Field:
    common: dict[str, Any] = {"label": setting.label, "help_text": setting.help, "required": False}
    if setting.kind == "check":
        return CheckField(**common)
    if setting.kind == "choice" and setting.varies:
        return ChoicesField(setting.choices, **common)
    if setting.kind == "choice":
        return forms.ChoiceField(choices=setting.choices, **common)
    if setting.kind == "words":
        return WordsField(everything=ALL if setting.varies else "", **common)
    return NumbersField(**common)


def _is_special(field: forms.BoundField) -> bool:
    """Whether the field has an error or a value other than its default."""
    default = field.field.initial
    return bool(field.errors) or str(field.value() or "") != str(default or "")


def _is_grid(name: str, value: Any) -> bool:
    """Whether there are several values; one list of names is a single value."""
    if _KINDS[name] == "words":
        return any(not isinstance(one, str) for one in value)
    return isinstance(value, list)


def _as_typed(kind: str | None, values: list[Any]) -> Any:
    if kind in ("choice", "check"):
        return values
    nothing = ALL if kind == "words" else ""
    texts = [nothing if value is None else str(form_value(value)) for value in values]
    return ("; " if kind == "words" else ", ").join(texts)


def _typed(grid: dict[str, list[Any]], configs: list[TrainingConfig]) -> dict[str, list[Any]]:
    """The grid with numbers instead of text, as the configurations parsed them."""
    read = [flatten(config.model_dump(mode="json")) for config in configs]
    typed: dict[str, list[Any]] = {name: [] for name in grid}
    for name, found in typed.items():
        for values in read:
            if values[name] not in found:
                found.append(values[name])
    return typed
