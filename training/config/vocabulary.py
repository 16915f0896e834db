"""Every setting of `TrainingConfig` in plain words, grouped as a person meets them, and presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["number", "choice", "check", "words"]

ALL = "all"  # the word for None where that means everything
_NESTED = ("lora", "scoring")


@dataclass(frozen=True)
class Setting:
    """One field of `TrainingConfig`; `choices` are (value, what it says)."""

    name: str
    label: str
    help: str
    kind: Kind = "number"
    choices: tuple[tuple[str, str], ...] = ()

    @property
    def varies(self) -> bool:
        """Whether trying several values makes other models, not other judgements of them."""
        return not self.name.startswith("scoring.")


@dataclass(frozen=True)
class Group:
    """Settings that are decided together."""

    title: str
    summary: str
    settings: tuple[Setting, ...]


ESSENTIALS = (
    Setting("iters", "Steps", "How often the weights are improved. More learns more, longer."),
    Setting("batch_size", "Batch size", "Examples at once. Larger is steadier and needs memory."),
    Setting("learning_rate", "Learning rate", "Size of each step. Halve it if the loss jumps."),
    Setting("lora.rank", "LoRA rank", "Room for new knowledge; 8 suits most tasks."),
    Setting("num_layers", "Layers", "Layers trained, counted from the top; -1 is all of them."),
    Setting("max_seq_length", "Longest example", "In tokens; what is longer is cut."),
)
GROUPS = (
    Group(
        "What is learned",
        "Objective, kind of fine-tune, which weights",
        (
            Setting(
                "objective",
                "Objective",
                "Preferences need a data set with chosen and rejected answers.",
                "choice",
                (
                    ("sft", "Answers (sft)"),
                    ("dpo", "Preferences, beside the base (dpo)"),
                    ("orpo", "Preferences and answers in one (orpo)"),
                ),
            ),
            Setting("beta", "Beta", "How strongly dpo and orpo hold to the preference."),
            Setting(
                "fine_tune_type",
                "Kind of fine-tune",
                "An adapter is small and quick; full trains the chosen layers' own weights.",
                "choice",
                (
                    ("lora", "LoRA adapter"),
                    ("dora", "DoRA adapter: closer to full, slower"),
                    ("full", "Full: all weights of the layers"),
                ),
            ),
            Setting("lora.scale", "LoRA scale", "How strongly the adapter speaks."),
            Setting("lora.dropout", "LoRA dropout", "Share switched off at random, from 0 to 1."),
            Setting(
                "lora.keys",
                "Adapted layers",
                "Such as self_attn.q_proj self_attn.v_proj, several lists with semicolons between "
                "them; empty, or the word all, adapts every linear layer.",
                "words",
            ),
            Setting(
                "mask_prompt",
                "Learn from answers only",
                "Prompts are read, not imitated.",
                "check",
            ),
        ),
    ),
    Group(
        "Steps and optimizer",
        "Epochs, schedule, optimizer",
        (
            Setting("epochs", "Epochs", "Passes over the data. When given, it replaces Steps."),
            Setting(
                "optimizer",
                "Optimizer",
                "AdamW suits nearly everything; sgd and adafactor hold less in memory.",
                "choice",
                tuple((name, name) for name in ("adamw", "adam", "sgd", "muon", "adafactor")),
            ),
            Setting("weight_decay", "Weight decay", "Pulls weights towards zero; 0 is off."),
            Setting(
                "schedule",
                "Schedule",
                "How the learning rate falls over the run.",
                "choice",
                tuple((name, name) for name in ("cosine", "linear", "constant")),
            ),
            Setting("warmup", "Warm-up steps", "The learning rate rises from zero over these."),
            Setting("grad_clip", "Gradient limit", "Cuts sudden jumps; 0 is off."),
            Setting("seed", "Seed", "The same seed, data and settings give the same bytes."),
        ),
    ),
    Group(
        "Memory and speed",
        "Accumulation, checkpointing, packing",
        (
            Setting(
                "grad_accumulation_steps",
                "Batches per step",
                "As steady as a batch so many times as large, in the memory of one.",
            ),
            Setting(
                "grad_checkpoint",
                "Recompute activations",
                "Holds a fraction of the activations in memory and takes about 40 % longer.",
                "check",
            ),
            Setting(
                "packing",
                "Pack short examples",
                "Fills each row with several examples that do not see each other.",
                "check",
            ),
        ),
    ),
    Group(
        "Validation and stopping",
        "How often, when to stop, what is kept",
        (
            Setting("steps_per_eval", "Validate every", "Steps between two validation losses."),
            Setting(
                "patience",
                "Patience",
                "Stop after so many validations without a better loss; 0 never stops early.",
            ),
            Setting(
                "restore_best",
                "End with the best weights",
                "Those of the lowest validation loss instead of the last ones.",
                "check",
            ),
            Setting("save_every", "Checkpoint every", "Steps an interruption can cost at most."),
            Setting("keep_checkpoints", "Checkpoints kept", "The newest ones, besides the best."),
            Setting(
                "samples",
                "Sample answers",
                "Validation prompts answered at each validation, to read on the job's page.",
            ),
            Setting("sample_tokens", "Longest sample", "Tokens of such an answer."),
        ),
    ),
    Group(
        "Scoring the result",
        "How answers are judged on the test split",
        (
            Setting(
                "scoring.scorer",
                "Scorer",
                "How an answer is compared with the right one, tuned beside base.",
                "choice",
                (
                    ("exact_match", "Exact match"),
                    ("json", "Same JSON"),
                    ("contains", "Contains the right answer"),
                    ("f1", "Shared words (F1)"),
                    ("none", "None: ask nothing"),
                ),
            ),
            Setting("scoring.examples", "Examples scored", "Of the test split."),
            Setting("scoring.max_tokens", "Longest answer", "Tokens of each answer."),
            Setting(
                "scoring.lm_eval",
                "lm-eval tasks",
                "Such as arc_easy hellaswag, where the lm-eval package is installed.",
                "words",
            ),
        ),
    ),
)
SETTINGS = (*ESSENTIALS, *(setting for group in GROUPS for setting in group.settings))
LABELS = {setting.name: setting.label for setting in SETTINGS}

PRESETS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "trial": (
        "Trial",
        "20 steps, to see that it runs",
        {"iters": 20, "steps_per_eval": 10, "save_every": 10},
    ),
    "balanced": ("Balanced", "100 steps over all layers", {}),
    "thorough": (
        "Thorough",
        "600 steps, rank 16, gentler, stops when it stops helping",
        {
            "iters": 600,
            "learning_rate": 1e-4,
            "lora.rank": 16,
            "warmup": 20,
            "steps_per_eval": 50,
            "patience": 4,
            "samples": 3,
        },
    ),
    "small-memory": (
        "Little memory",
        "Top 8 layers, one short example at a time",
        {
            "batch_size": 1,
            "grad_accumulation_steps": 4,
            "grad_checkpoint": True,
            "num_layers": 8,
            "max_seq_length": 512,
        },
    ),
    "preferences": (
        "Preferences",
        "DPO on chosen and rejected answers",
        {"objective": "dpo", "learning_rate": 2e-5, "batch_size": 2, "iters": 200},
    ),
}


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """`{"lora": {"rank": 8}}` → `{"lora.rank": 8}`, as the form names its fields."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if name in _NESTED:
            flat |= {f"{name}.{inner}": held for inner, held in value.items()}
        else:
            flat[name] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    config: dict[str, Any] = {name: {} for name in _NESTED}
    for name, value in flat.items():
        outer, _, inner = name.partition(".")
        if inner:
            config[outer][inner] = value
        else:
            config[name] = value
    return config


def written(value: Any) -> Any:
    """As a person writes it: 0.0002, not 2e-04 and not 20.0; a list as words."""
    if isinstance(value, float):
        return f"{value:.10f}".rstrip("0").rstrip(".")
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return value


def told(value: Any) -> Any:
    """A value of a sweep for a person."""
    if value is None:
        return ALL
    if isinstance(value, bool):
        return "on" if value else "off"
    return written(value)


def initial_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Form values of a stored configuration."""
    return {name: written(value) for name, value in flatten(config).items()}


def labelled(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(label, value) of each stored setting that says something, in the form's order."""
    values = initial_of(config)
    return [
        (setting.label, values[setting.name])
        for setting in SETTINGS
        if values.get(setting.name) not in (None, "")
    ]


def varied_words(varied: Mapping[str, Any]) -> str:
    """`LoRA rank 16, Learning rate 0.0002` of a job's own settings in its sweep."""
    return ", ".join(f"{LABELS.get(name, name)} {told(value)}" for name, value in varied.items())


def labelled_change(changes: Mapping[str, Any]) -> str:
    """`Batch size 2 and Recompute activations`, as a person would set them."""
    return " and ".join(
        LABELS[name] if value is True else f"{LABELS[name]} {written(value)}"
        for name, value in changes.items()
    )
