"""The form of a new training job. Its rules are those of `TrainingConfig` and of the queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from pydantic import ValidationError

from backends.base import TrainingConfig
from registry.models import Dataset, Model

PRESETS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "trial": (
        "Trial",
        "20 steps, to see that it runs",
        {"iters": 20, "steps_per_eval": 10, "save_every": 10},
    ),
    "balanced": ("Balanced", "100 steps over all layers", {}),
    "thorough": (
        "Thorough",
        "600 steps, rank 16, gentler",
        {
            "iters": 600,
            "learning_rate": 1e-4,
            "lora.rank": 16,
            "warmup": 20,
            "steps_per_eval": 100,
        },
    ),
    "small-memory": (
        "Little memory",
        "Top 8 layers, short examples",
        {"batch_size": 1, "num_layers": 8, "max_seq_length": 512, "iters": 200},
    ),
}


@dataclass(frozen=True)
class Setting:
    """One field of `TrainingConfig` in plain words."""

    name: str
    label: str
    help: str
    kind: str = "number"
    step: str = "1"
    choices: tuple[str, ...] = ()


MAIN = (
    Setting("iters", "Steps", "How many times the weights are improved. More learns more, longer."),
    Setting("batch_size", "Batch size", "Examples per step. Larger is steadier and needs memory."),
    Setting(
        "learning_rate", "Learning rate", "Size of each step. Halve it if loss jumps.", step="any"
    ),
    Setting("lora.rank", "LoRA rank", "Room for new knowledge: 8 suits most tasks."),
    Setting("num_layers", "Layers", "Layers adapted, counted from the top; -1 is all of them."),
    Setting("max_seq_length", "Longest example", "In tokens; longer examples are cut."),
)
MORE = (
    Setting("lora.scale", "LoRA scale", "How strongly the adapter speaks.", step="any"),
    Setting("lora.dropout", "LoRA dropout", "Share switched off at random, 0 to 1.", step="any"),
    Setting("optimizer", "Optimizer", "", "choice", choices=("adamw", "adam")),
    Setting("weight_decay", "Weight decay", "Pulls weights towards zero; 0 is off.", step="any"),
    Setting(
        "schedule",
        "Schedule",
        "How the learning rate falls over the run.",
        "choice",
        choices=("cosine", "linear", "constant"),
    ),
    Setting("warmup", "Warm-up steps", "The learning rate rises from zero over these."),
    Setting("grad_clip", "Gradient limit", "Cuts sudden jumps; 0 is off.", step="any"),
    Setting("steps_per_eval", "Validate every", "Steps between two validation losses."),
    Setting("save_every", "Checkpoint every", "Steps an interruption can cost at most."),
    Setting(
        "scoring.scorer",
        "Score by",
        "How answers to the test split are compared with the right ones, base against tuned.",
        "choice",
        choices=("exact_match", "json", "contains", "f1", "none"),
    ),
    Setting("scoring.examples", "Examples scored", "Of the test split, spread over it."),
    Setting("scoring.max_tokens", "Longest scored answer", "In tokens; longer ones are cut."),
    Setting("seed", "Seed", "The same seed, data and settings give the same bytes."),
)
MASK_PROMPT = Setting(
    "mask_prompt", "Learn from answers only", "Prompts are read, not imitated.", "check"
)
SETTINGS = (*MAIN, *MORE, MASK_PROMPT)


class NewJobForm(forms.Form):
    """A model, a data set and one field for each setting of `TrainingConfig`."""

    model = forms.ModelChoiceField(Model.objects.order_by("name"), empty_label=None)
    dataset = forms.ModelChoiceField(
        Dataset.objects.filter(next=None)
        .exclude(format=Dataset.Format.PREFERENCE)
        .order_by("name"),
        label="Data set",
        empty_label=None,
    )
    priority = forms.IntegerField(
        required=False, initial=0, help_text="Higher runs first; 0 is normal."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        defaults = flatten(TrainingConfig().model_dump(mode="json"))
        for setting in SETTINGS:
            self.fields[setting.name] = _field(setting)
            self.fields[setting.name].initial = written(defaults[setting.name])

    @property
    def main(self) -> list[forms.BoundField]:
        return [self[setting.name] for setting in MAIN]

    @property
    def more(self) -> list[forms.BoundField]:
        return [self[setting.name] for setting in (*MORE, MASK_PROMPT)]

    @property
    def more_has_errors(self) -> bool:
        return any(field.errors for field in self.more)

    def clean(self) -> dict[str, Any]:
        """Adds `config`, the validated `TrainingConfig`; pydantic's errors go to their fields."""
        cleaned = super().clean() or {}
        values = {
            setting.name: cleaned[setting.name]
            for setting in SETTINGS
            if cleaned.get(setting.name) not in ("", None)
        }
        try:
            cleaned["config"] = TrainingConfig.model_validate(nest(values))
        except ValidationError as error:
            for problem in error.errors():
                name = ".".join(str(part) for part in problem["loc"])
                message = problem["msg"].removeprefix("Value error, ")
                self.add_error(name if name in self.fields else None, f"{message}.")
        return cleaned


def _field(setting: Setting) -> forms.Field:
    common: dict[str, Any] = {
        "label": setting.label,
        "help_text": setting.help,
        "required": False,
    }
    if setting.kind == "check":
        return forms.BooleanField(**common)
    if setting.kind == "choice":
        return forms.ChoiceField(choices=[(name, name) for name in setting.choices], **common)
    number = forms.NumberInput(attrs={"step": setting.step, "inputmode": "decimal"})
    return forms.CharField(widget=number, **common)


def flatten(config: dict[str, Any]) -> dict[str, Any]:
    """`{"lora": {"rank": 8}}` → `{"lora.rank": 8}`, as the form names its fields."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        inner = value if isinstance(value, dict) else None
        flat |= {name: value} if inner is None else {f"{name}.{k}": v for k, v in inner.items()}
    return flat


def nest(flat: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    config: dict[str, Any] = {}
    for name, value in flat.items():
        group, dot, inner = name.partition(".")
        if dot:
            config.setdefault(group, {})[inner] = value
        else:
            config[name] = value
    return config


def written(value: Any) -> Any:
    """A number as a person writes it: 0.0002, not 2e-04 and not 20.0."""
    if isinstance(value, float):
        return f"{value:.10f}".rstrip("0").rstrip(".")
    return value


def initial_of(config: dict[str, Any]) -> dict[str, Any]:
    """Form values of a stored configuration."""
    return {name: written(value) for name, value in flatten(config).items()}


def labelled(config: dict[str, Any]) -> list[tuple[str, Any]]:
    """(label, value) of each stored setting, in the form's order."""
    values = initial_of(config)
    return [(setting.label, values[setting.name]) for setting in SETTINGS if setting.name in values]
