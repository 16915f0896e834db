"""What is wrong with a setting, in the words of the form: its label, and which values there are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from annotated_types import Ge, Gt, Le, Lt

from backends.base import TrainingConfig
from registry.errors import place_and_message
from training.config.vocabulary import LABELS, SETTINGS

_NUMBERS = ("int", "float", "greater", "less", "finite")  # as pydantic's kinds of errors begin
_CHOICES = {setting.name: setting.choices for setting in SETTINGS if setting.choices}
# Names that are no words of their own; `seed` or `objective` are read as they are.
_NAMES = re.compile(
    r"\b("
    + "|".join(
        sorted(
            (
                re.escape(name)
                for name in LABELS
                if "_" in name or "." in name or name in ("iters", "warmup")
            ),
            key=len,
            reverse=True,
        )
    )
    + r")\b",
    re.IGNORECASE,
)


def explained(found: Mapping[str, Any]) -> tuple[str, str]:
    """The setting that one of pydantic's problems with a `TrainingConfig` is about (empty: none
    alone), and a sentence."""
    name, message = place_and_message(found)
    if name not in LABELS and name.rpartition(".")[0] in LABELS:  # an item of a list
        name = name.rpartition(".")[0]
    kind = str(found["type"])
    if name in LABELS and kind.startswith(_NUMBERS):
        return name, f"Enter {_range(name)}{_instead(found.get('input'))}."
    if kind == "literal_error" and name in _CHOICES:
        offered = ", ".join(label.split(":")[0] for _, label in _CHOICES[name])
        return name, f"Choose one of these: {offered}."
    return name or first_named(message), f"{_capital(in_labels(message))}."


def first_named(sentence: str) -> str:
    """The setting that a sentence names first; empty when it names none."""
    found = _NAMES.search(sentence)
    return found.group().lower() if found else ""


def in_labels(sentence: str) -> str:
    """The sentence with the labels of settings instead of their names: `“Batch size” 4`."""
    return _NAMES.sub(lambda name: f"“{LABELS[name.group().lower()]}”", sentence)


def _range(name: str) -> str:
    """`a whole number from 1 to 256`."""
    outer, _, inner = name.rpartition(".")
    model: Any = TrainingConfig
    if outer:
        model = TrainingConfig.model_fields[outer].annotation
    field = model.model_fields[inner]
    is_whole = int in (field.annotation, *get_args(field.annotation))
    kind = "a whole number" if is_whole else "a number"
    low = next((m for m in field.metadata if isinstance(m, Ge | Gt)), None)
    high = next((m for m in field.metadata if isinstance(m, Le | Lt)), None)
    if isinstance(low, Ge) and isinstance(high, Le):
        return f"{kind} from {low.ge:,} to {high.le:,}"
    above = {Ge: "of at least", Gt: "above"}
    below = {Le: "of at most", Lt: "below"}
    parts = [kind]
    if low is not None:
        parts.append(f"{above[type(low)]} {low.ge if isinstance(low, Ge) else low.gt:,}")
    if high is not None:
        joined = "and " if low is not None else ""
        parts.append(
            f"{joined}{below[type(high)]} {high.le if isinstance(high, Le) else high.lt:,}"
        )
    return " ".join(parts)


def _instead(came: Any) -> str:
    text = str(came)
    return f", not “{text}”" if came not in (None, "") and len(text) <= 30 else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
