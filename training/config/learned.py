"""What a run learns of its data, in the words of its plan."""

from __future__ import annotations

from backends.base import TrainingConfig
from registry.models import Dataset

_ANSWERS = {
    "answers": "every answer",
    "last_answer": "the last answer of each chat",
    "everything": "prompts and answers",
}
_PAIRS = {"answers": "every completion", "last_answer": "every completion"}
_THOUGHTS = {
    "kept": ", thoughts included",
    "masked": ", but not its thoughts, which are read",
    "dropped": ", without its thoughts, which are left out",
    "as_written": "",
}


def learned(dataset: Dataset, config: TrainingConfig) -> str:
    """What the loss counts, such as "every answer, thoughts included"."""
    if dataset.format == Dataset.Format.TEXT:
        return "all of each text"
    if config.objective == "kto":
        answers = "to prefer good answers to bad ones"
    elif config.objective != "sft":
        answers = "to prefer chosen answers to rejected ones"
    elif dataset.format == Dataset.Format.LABELLED:
        bad = dataset.examples - dataset.good_answers
        good = (
            f"the {dataset.good_answers:,} answers labelled good and none of the {bad:,} bad ones"
        )
        answers = f"prompts and {good}" if config.learn == "everything" else good
    elif dataset.format == Dataset.Format.COMPLETIONS:
        answers = _PAIRS.get(config.learn, "prompts and completions")
    else:
        answers = _ANSWERS[config.learn]
    several = config.objective != "sft" or dataset.format == Dataset.Format.LABELLED
    many = several or config.learn == "everything"
    return answers + _THOUGHTS[config.thoughts].replace("its", "their" if many else "its")
