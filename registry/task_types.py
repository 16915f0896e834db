"""What the task of a model proposes: how its versions are scored, what decides about them, and how
they are tried. One table; nothing else asks which task a model has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

type Form = Literal["chat", "labels", "fields"]
"""How a version is tried on its page: in the playground alone, by a text whose labels get
probabilities, or by a text whose fields are shown."""


@dataclass(frozen=True)
class TaskType:
    """`scorer` is one of `backends.scorers.SCORERS`; `metrics` are the figures of a version that
    decide about it, the first of which is shown first and proposed as a promotion rule. With
    `labels`, versions answer with one of their data set's labels."""

    scorer: str
    metrics: tuple[str, ...]
    form: Form = "chat"
    labels: bool = False


TASK_TYPES: dict[str, TaskType] = {
    "chat": TaskType("exact_match", ("exact_match",)),
    "extraction": TaskType(
        "json", ("field_f1", "field_precision", "field_recall", "json"), "fields"
    ),
    "classification": TaskType("label", ("macro_f1", "accuracy"), "labels", labels=True),
    "summarization": TaskType("f1", ("f1",)),
    "code": TaskType("exact_match", ("exact_match",)),
    "other": TaskType("exact_match", ("exact_match",)),
}
"""By `Model.TaskType`."""

METRICS = tuple(dict.fromkeys(name for task in TASK_TYPES.values() for name in task.metrics))
"""Those of all tasks."""
