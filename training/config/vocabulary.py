"""Label and help text of every `TrainingConfig` setting, grouped as the form shows them; presets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from backends.base import TrainingConfig, in_new_words

Kind = Literal["number", "choice", "check", "words"]

ALL = "all"  # shown for None where None means everything
_NESTED = ("lora", "scoring")
_USED_BY = {
    "beta": ("dpo", "orpo", "simpo", "kto"),
    "gamma": ("simpo",),
    "desirable_weight": ("kto",),
    "undesirable_weight": ("kto",),
}


@dataclass(frozen=True)
class Setting:
    """One field of `TrainingConfig`; `choices` are (value, label)."""

    name: str
    label: str
    help: str
    kind: Kind = "number"
    choices: tuple[tuple[str, str], ...] = ()

    @property
    def varies(self) -> bool:
        """Whether a sweep can vary it: other values train other models, not only score them."""
        return not self.name.startswith("scoring.")


@dataclass(frozen=True)
class Group:
    """Settings that belong together."""

    title: str
    summary: str
    settings: tuple[Setting, ...]


ESSENTIALS = (
    Setting("iters", "Steps", "Number of weight updates. More steps learn more and take longer."),
    Setting(
        "batch_size", "Batch size", "Examples per batch. Larger is smoother and needs more memory."
    ),
    Setting("learning_rate", "Learning rate", "Size of each update. Halve it if the loss jumps."),
    Setting("lora.rank", "LoRA rank", "Capacity of the adapter; 8 suits most tasks."),
    Setting("num_layers", "Layers", "Number of layers to train, from the top; -1 means all."),
    Setting("max_seq_length", "Longest example", "In tokens; longer examples are truncated."),
)
GROUPS = (
    Group(
        "What to train",
        "Objective, fine-tune type, which weights",
        (
            Setting(
                "objective",
                "Objective",
                "Preference training needs a data set with chosen and rejected answers; KTO also "
                "takes single answers labelled good or bad, of which SFT learns the good ones.",
                "choice",
                (
                    ("sft", "Answers (SFT)"),
                    ("dpo", "Preferences against the base model (DPO)"),
                    ("orpo", "Preferences and answers together (ORPO)"),
                    ("simpo", "Preferences by mean likelihood, without the base model (SimPO)"),
                    ("kto", "Good and bad answers against the base model (KTO)"),
                ),
            ),
            Setting("beta", "Beta", "Weight of the preferences; about 2 for SimPO."),
            Setting("gamma", "SimPO margin", "By how much the chosen answer should be likelier."),
            Setting("desirable_weight", "Weight of good answers", "For KTO."),
            Setting(
                "undesirable_weight",
                "Weight of bad answers",
                "For KTO; balance them with the good ones when there are more or fewer of them.",
            ),
            Setting(
                "fine_tune_type",
                "Fine-tune type",
                "An adapter is small and fast; full trains all weights of the chosen layers.",
                "choice",
                (
                    ("lora", "LoRA adapter"),
                    ("dora", "DoRA adapter: closer to full, but slower"),
                    ("full", "Full: all weights of the layers"),
                ),
            ),
            Setting("lora.scale", "LoRA scale", "How strongly the adapter affects the output."),
            Setting(
                "lora.dropout", "LoRA dropout", "Fraction of inputs dropped at random, from 0 to 1."
            ),
            Setting(
                "lora.keys",
                "Adapted layers",
                "For example self_attn.q_proj self_attn.v_proj. Empty, or the word all, adapts every "
                "linear layer. Separate several lists with semicolons to sweep over them.",
                "words",
            ),
            Setting(
                "learn",
                "What is learned",
                "The tokens that the loss counts. Messages of weight 0 are left out, except by "
                "everything.",
                "choice",
                (
                    ("answers", "All answers: every assistant message of a chat"),
                    ("last_answer", "The last answer of each chat"),
                    ("everything", "Everything: prompts as well"),
                ),
            ),
            Setting(
                "thoughts",
                "Thoughts",
                "What answers say between <think> and </think>, or keep in reasoning_content.",
                "choice",
                (
                    ("kept", "Kept: learned with the answer"),
                    ("masked", "Masked: read, but not learned"),
                    ("dropped", "Dropped: left out"),
                    ("as_written", "As written: as in earlier versions"),
                ),
            ),
            Setting(
                "special_tokens",
                "Special tokens in messages",
                "What <|im_end|> and the like are when someone typed them. Served models read text.",
                "choice",
                (("text", "Text"), ("control", "Control tokens, as in earlier versions")),
            ),
            Setting(
                "tools",
                "Tools and system messages",
                "What the chat template does not know. Served models read it in words.",
                "choice",
                (
                    ("in_words", "In words, where the template does not know them"),
                    ("as_written", "As written: as in earlier versions"),
                ),
            ),
        ),
    ),
    Group(
        "Steps and optimizer",
        "Epochs, schedule, optimizer",
        (
            Setting("epochs", "Epochs", "Passes over the data. If set, it replaces Steps."),
            Setting(
                "optimizer",
                "Optimizer",
                "AdamW suits nearly everything; sgd and adafactor use less memory.",
                "choice",
                tuple((name, name) for name in ("adamw", "adam", "sgd", "muon", "adafactor")),
            ),
            Setting("weight_decay", "Weight decay", "Pulls weights toward zero; 0 is off."),
            Setting(
                "schedule",
                "Schedule",
                "How the learning rate decreases over the run.",
                "choice",
                tuple((name, name) for name in ("cosine", "linear", "constant")),
            ),
            Setting(
                "warmup", "Warm-up steps", "The learning rate rises from zero over this many steps."
            ),
            Setting("grad_clip", "Gradient clipping", "Limits sudden jumps; 0 is off."),
            Setting("seed", "Seed", "The same seed, data and settings give identical weights."),
        ),
    ),
    Group(
        "Memory and speed",
        "Accumulation, checkpointing, packing",
        (
            Setting(
                "grad_accumulation_steps",
                "Batches per step",
                "Acts like a larger batch without needing more memory.",
            ),
            Setting(
                "grad_checkpoint",
                "Recompute activations",
                "Keeps only a fraction of the activations in memory; takes about 40 % longer.",
                "check",
            ),
            Setting(
                "packing",
                "Pack short examples",
                "Fills each row with several examples, which do not see each other.",
                "check",
            ),
            Setting(
                "arithmetic",
                "Arithmetic",
                "A full fine-tune of a 16-bit base loses small updates without float32 masters, which "
                "take 4 bytes a weight.",
                "choice",
                (("masters", "With float32 masters"), ("earlier", "As in earlier versions")),
            ),
        ),
    ),
    Group(
        "Validation and stopping",
        "How often to validate, when to stop, what to keep",
        (
            Setting("steps_per_eval", "Validate every", "Steps between two validations."),
            Setting(
                "eval_examples",
                "Validate on",
                "The most examples of the validation and of the test split, spread over it; 0 takes "
                "all.",
            ),
            Setting(
                "patience",
                "Patience",
                "Stop after this many validations without a better loss; 0 never stops early.",
            ),
            Setting(
                "restore_best",
                "End with the best weights",
                "Keep the weights with the lowest validation loss instead of the last ones.",
                "check",
            ),
            Setting(
                "save_every", "Checkpoint every", "The most steps that an interruption can cost."
            ),
            Setting(
                "keep_checkpoints", "Checkpoints kept", "The newest ones, in addition to the best."
            ),
            Setting(
                "samples",
                "Sample answers",
                "Validation prompts to answer at each validation; shown on the job's page.",
            ),
            Setting("sample_tokens", "Longest sample", "In tokens."),
        ),
    ),
    Group(
        "Scoring the result",
        "How answers on the test split are scored",
        (
            Setting(
                "scoring.scorer",
                "Scorer",
                "How answers of the base and the tuned model are compared with the expected ones.",
                "choice",
                (
                    ("task", "By task: the model's task decides"),
                    ("exact_match", "Exact match"),
                    ("label", "Label: accuracy, macro F1"),
                    ("json", "Same JSON"),
                    ("contains", "Contains the expected answer"),
                    ("f1", "Shared words (F1)"),
                    ("none", "None: skip scoring"),
                ),
            ),
            Setting("scoring.examples", "Examples scored", "From the test split."),
            Setting("scoring.max_tokens", "Longest answer", "In tokens."),
            Setting(
                "scoring.lm_eval",
                "lm-eval tasks",
                "For example arc_easy hellaswag; needs the lm-eval package.",
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
        "20 steps, to check that it works",
        {"iters": 20, "steps_per_eval": 10, "save_every": 10},
    ),
    "balanced": ("Balanced", "100 steps on all layers", {}),
    "thorough": (
        "Thorough",
        "600 steps, rank 16, lower learning rate, early stopping",
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
        "Low memory",
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
    """`{"lora": {"rank": 8}}` → `{"lora.rank": 8}`, the names of the form's fields. Settings get today's names."""
    flat: dict[str, Any] = {}
    for name, value in in_new_words(config).items():
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


def form_value(value: Any) -> Any:
    """As a person would type it: 0.0002, not 2e-04; 20, not 20.0; a list with spaces."""
    if isinstance(value, float):
        return f"{value:.10f}".rstrip("0").rstrip(".")
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return value


def display_value(value: Any) -> Any:
    """A sweep's value for a person to read: None as "all", booleans as "on" and "off"."""
    if value is None:
        return ALL
    if isinstance(value, bool):
        return "on" if value else "off"
    return form_value(value)


def initial_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Form values for a stored configuration."""
    return {name: form_value(value) for name, value in flatten(config).items()}


def labelled(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(label, value) of each stored setting that has a value, in the form's order and words; a
    default that the objective does not use is left out."""
    values = initial_of(config)
    objective = values.get("objective", "sft")
    idle = {name for name, used_by in _USED_BY.items() if objective not in used_by}
    defaults = initial_of(TrainingConfig().model_dump(mode="json"))
    return [
        (setting.label, _said(setting, values[setting.name]))
        for setting in SETTINGS
        if values.get(setting.name) not in (None, "")
        and not (setting.name in idle and values[setting.name] == defaults[setting.name])
    ]


def _said(setting: Setting, value: Any) -> Any:
    """A value in the form's words, of a choice without its explanation."""
    if setting.name == "num_layers" and value == -1:
        return ALL
    words = dict(setting.choices).get(value) if setting.kind == "choice" else None
    return value if words is None else re.split("[:,]", words)[0]


def varied_words(varied: Mapping[str, Any]) -> str:
    """`LoRA rank 16, Learning rate 0.0002`: what a job varies in its sweep."""
    return ", ".join(
        f"{LABELS.get(name, name)} {display_value(value)}" for name, value in varied.items()
    )


def labelled_change(changes: Mapping[str, Any]) -> str:
    """`Batch size 2 and Recompute activations`: the changes by their labels in the form."""
    return " and ".join(
        LABELS[name] if value is True else f"{LABELS[name]} {form_value(value)}"
        for name, value in changes.items()
    )
