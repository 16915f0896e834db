"""Which settings fit which model and data set: the one place that form, API and queue ask.

What a configuration alone makes invalid is rejected by `TrainingConfig` itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from backends.base import TrainingConfig
from backends.examples import STRIPPED
from registry.datasets.examination import find_report
from registry.errors import Conflict, Invalid
from registry.models import Dataset, Model
from registry.versions import numbering
from training.config import scorers
from training.models import TrainingJob

_HIGH_RATE_FOR_FULL = 5e-5  # mlx-lm and its users run full fine-tunes at about 1e-5


@dataclass(frozen=True)
class Problem:
    """One sentence about a setting: a name from `TrainingConfig`, `model` or `dataset`."""

    setting: str
    message: str


def check(model: Model, dataset: Dataset, config: TrainingConfig) -> None:
    """Raises Invalid, with all reasons, when `model` cannot be trained like this."""
    if found := problems(model, dataset, config):
        raise Invalid(" ".join(problem.message for problem in found))


def check_number(model: Model, number: str) -> None:
    """Raises Invalid or Conflict when a new job of `model` cannot use this version number."""
    numbering.check(model, number)
    alive = [TrainingJob.Status.QUEUED, TrainingJob.Status.RUNNING]
    asked = TrainingJob.objects.filter(model=model, version_number=number, status__in=alive)
    if job := asked.first():
        raise Conflict(f"Job {job.pk} will create {model}@{number}; choose another number.")


def problems(model: Model, dataset: Dataset, config: TrainingConfig) -> list[Problem]:
    """Why `model` cannot be trained on `dataset` with `config`; empty when it can."""
    return [
        *_objective(dataset, config),
        *_model(model, config),
        *_data(dataset, config),
        *_scoring(config),
    ]


def advice(model: Model, dataset: Dataset, config: TrainingConfig) -> list[Problem]:
    """What is allowed but probably not intended."""
    return [
        *_judgements(dataset, config),
        *_lengths(model, dataset, config),
        *_thoughts(model, dataset, config),
        *_pace(dataset, config),
        *_splits(dataset, config),
        *_labels(model, dataset),
    ]


def steps(dataset: Dataset, config: TrainingConfig) -> int:
    """Optimizer steps of a run; with `epochs` an estimate that ignores packing."""
    if config.epochs is None:
        return config.iters
    per_step = config.batch_size * config.grad_accumulation_steps
    return max(1, math.ceil(config.epochs * _learned(dataset, config) / per_step))


def _learned(dataset: Dataset, config: TrainingConfig) -> int:
    """Training examples as the objective counts them: kto learns both answers of a pair by itself,
    sft the good ones of labelled answers (about: they are counted over all splits)."""
    if config.objective == "kto" and dataset.format == Dataset.Format.PREFERENCE:
        return _examples(dataset) * 2
    if config.objective == "sft" and dataset.format == Dataset.Format.LABELLED:
        return round(_examples(dataset) * dataset.good_answers / max(1, dataset.examples))
    return _examples(dataset)


def _examples(dataset: Dataset, split: str = "train") -> int:
    return int(dataset.splits.get(split, 0))


def _objective(dataset: Dataset, config: TrainingConfig) -> Iterator[Problem]:
    preferences = dataset.format == Dataset.Format.PREFERENCE
    labelled = dataset.format == Dataset.Format.LABELLED
    if preferences and config.objective == "sft":
        yield Problem(
            "objective",
            f"Data set {dataset.name} contains preferences (chosen and rejected answers). Set "
            "objective to dpo, orpo, simpo or kto, or choose a data set of chats, completions, tool "
            "calls or text.",
        )
    elif labelled and config.objective not in ("kto", "sft"):
        yield Problem(
            "objective",
            f"Data set {dataset.name} contains answers labelled good or bad. Set objective to kto, "
            "which learns from both, or to sft, which learns the good ones alone.",
        )
    elif labelled and config.objective == "sft" and dataset.one_label == "false":
        yield Problem(
            "objective",
            f"Data set {dataset.name} has no answer labelled good, which is what objective sft learns.",
        )
    elif config.objective == "kto" and not (preferences or labelled):
        yield Problem(
            "objective",
            "Objective kto needs answers labelled good or bad, or chosen and rejected ones, which "
            f"data set {dataset.name} does not have. Use objective sft or such a data set.",
        )
    elif config.objective not in ("sft", "kto") and not preferences:
        yield Problem(
            "objective",
            f"Objective {config.objective} needs chosen and rejected answers, which data set "
            f"{dataset.name} does not have. Use objective sft or a data set of preferences.",
        )


def _model(model: Model, config: TrainingConfig) -> Iterator[Problem]:
    if model.archived_at is not None:
        yield Problem("model", f"Model {model.name} is archived; restore it before training.")
    base = model.base_model
    if config.fine_tune_type == "full" and base.is_quantized:
        yield Problem(
            "fine_tune_type",
            f"Base model {base.name} is quantized ({base.quantization}), and quantized weights "
            "cannot be trained. Use lora or dora, or a model with an unquantized base.",
        )
    if config.num_layers == 0:
        yield Problem("num_layers", "num_layers 0 trains nothing; use -1 for all layers.")
    if config.lora.keys is not None and not config.lora.keys:
        yield Problem("lora.keys", "lora.keys is empty; leave it out to adapt every linear layer.")


def _data(dataset: Dataset, config: TrainingConfig) -> Iterator[Problem]:
    examples = _learned(dataset, config)
    if examples < config.batch_size:
        yield Problem(
            "batch_size",
            f"Data set {dataset.name} has {examples} training examples, fewer than batch_size "
            f"{config.batch_size}; lower batch_size or add examples.",
        )


def _scoring(config: TrainingConfig) -> Iterator[Problem]:
    try:
        scorers.check(config.scoring)
    except Invalid as error:
        yield Problem("scoring.lm_eval", str(error))


def _judgements(dataset: Dataset, config: TrainingConfig) -> Iterator[Problem]:
    if config.objective == "kto" and (label := dataset.one_label):
        yield Problem(
            "objective",
            f"All answers of {dataset.name} have the label {label}; KTO learns from good and bad ones.",
        )
    if config.objective == "simpo" and config.beta < 1:
        yield Problem("beta", f"{config.beta:g} is low for SimPO; 2 is a common start.")


def _lengths(model: Model, dataset: Dataset, config: TrainingConfig) -> Iterator[Problem]:
    context = model.base_model.context_length
    if context and config.max_seq_length > context:
        yield Problem(
            "max_seq_length",
            f"{model.base_model.name} has a context of {context} tokens; tokens beyond it are "
            "learned poorly.",
        )
    if dataset.format == Dataset.Format.TEXT and config.learn != "everything":
        yield Problem("learn", "Plain text has no answers, so the model learns from all of it.")
    if config.objective != "sft" and config.learn == "everything":
        yield Problem(
            "learn", "Preferences and labelled answers are learned from the answers alone."
        )
    if config.special_tokens == "control":
        yield Problem(
            "special_tokens",
            "Served models read special tokens in messages as text, so a model trained with control "
            "tokens is asked with others than it learned from.",
        )
    if config.tools == "as_written":
        yield Problem(
            "tools",
            "Served models read tools and system messages that the template does not know in words, so "
            "a model trained on them as written is asked with others than it learned from; set tools "
            "to in_words.",
        )
    narrow = model.base_model.quantization in ("bfloat16", "float16")
    if config.fine_tune_type == "full" and narrow and config.arithmetic == "earlier":
        yield Problem(
            "arithmetic",
            "Small updates of 16-bit weights are rounded away, as in earlier versions; set arithmetic "
            "to masters to keep them.",
        )
    if config.fine_tune_type == "full" and config.learning_rate > _HIGH_RATE_FOR_FULL:
        yield Problem(
            "learning_rate",
            f"{config.learning_rate:g} is high for a full fine-tune; 0.00001 is a common start.",
        )


def _thoughts(model: Model, dataset: Dataset, config: TrainingConfig) -> Iterator[Problem]:
    if config.thoughts in ("kept", "masked") and config.learn == "answers":
        report = find_report(dataset, model.base_model)
        splits = report.report.get("tokens", {}) if report else {}
        if count := splits.get("train", {}).get("notes", {}).get(STRIPPED):
            yield Problem(
                "thoughts",
                f"The check of data set {dataset.name} found {count:,} answers in train that are not "
                f"learned: {STRIPPED}.",
            )
    if config.thoughts == "as_written":
        yield Problem(
            "thoughts",
            "Thoughts in fields beside an answer's text are not learned, as in earlier versions; "
            "set thoughts to kept to learn them.",
        )


def _pace(dataset: Dataset, config: TrainingConfig) -> Iterator[Problem]:
    total = steps(dataset, config)
    if config.epochs is not None and config.warmup >= total:
        yield Problem(
            "warmup",
            f"The run has about {total} steps and warmup takes {config.warmup}, so the learning rate "
            "reaches its full value only at the end.",
        )
    if config.steps_per_eval > total:
        yield Problem(
            "steps_per_eval",
            f"The run has {total} steps, so it is validated once, at its end, and there is no earlier "
            f"loss to choose the best weights by; set this to {max(1, total // 4)} to see it develop.",
        )
    elif config.patience and config.patience * config.steps_per_eval >= total:
        yield Problem(
            "patience",
            f"Patience {config.patience} needs {config.patience * config.steps_per_eval} steps "
            f"without improvement, but the run has only {total}, so it will not stop early.",
        )
    passes = total * config.batch_size * config.grad_accumulation_steps / (_examples(dataset) or 1)
    if config.epochs is None and passes > 20 and config.objective == "sft":
        yield Problem(
            "iters",
            f"Each example is seen about {passes:.0f} times, which usually leads to overfitting.",
        )


def _splits(dataset: Dataset, config: TrainingConfig) -> Iterator[Problem]:
    if not _examples(dataset, "test") and config.scoring.scorer != "none":
        yield Problem(
            "scoring.scorer",
            f"Data set {dataset.name} has no test split, so the result is not scored.",
        )


def _labels(model: Model, dataset: Dataset) -> Iterator[Problem]:
    if dataset.labels and not model.task.labels:
        yield Problem(
            "model",
            f"Data set {dataset.name} has {len(dataset.labels)} labels, but the task of {model.name} "
            f"is {model.get_task_type_display().lower()}, so its versions answer in their own words. "
            "Edit the model and make its task classification to get labels with probabilities.",
        )
    elif model.task.labels and not dataset.schema.get("classes", [""]):
        yield Problem(
            "dataset",
            f"Data set {dataset.name} has no labels, which are 2 to 200 short answers that occur "
            f"again and again, so versions of {model.name} answer in their own words.",
        )
