"""Scores a finished version against its base: both answer the test split, and the answers are
compared with the expected ones.

It runs in the job's child process once the version is ready, so no failure here can lose the
version: the failure is recorded instead of scores. LoRA adapters answer together with their base
in one batch; other fine-tunes are loaded after it.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import structlog
from django.conf import settings

from backends import get_backend, reports
from backends.base import LoadedModel, PromptTooLong, Sampling, Thoughts
from backends.scorers import SCORERS, NoAnswer, Question, exact_match, fields_of, question
from backends.thoughts import words_of
from registry.bases import registration
from registry.datasets import snapshots
from registry.errors import Invalid
from registry.models import ModelVersion
from registry.storage import paths
from registry.versions import lifecycle
from training.models import TrainingJob
from training.queue.outage import ride_out

ROWS = 32  # answered together
SAMPLES = 12  # answers kept
_LONGEST = 2000  # characters of a kept text
_HEARTBEAT_S = 1.0

type Side = Literal["base", "tuned"]
_SIDES: tuple[Side, Side] = ("base", "tuned")
_PREFIXES: dict[Side, str] = {"base": "base_", "tuned": ""}  # of the names of their figures
type Tick = Callable[[int, int], None]  # answers done, answers wanted
type Ask = Callable[
    [LoadedModel, Sequence[tuple[Row, Side]], Path | None, Sampling, Callable[[int], None]], None
]
"""Fills in the wanted answers: `answer`, or `choose` with its labels."""

log = structlog.get_logger(__name__)


class Halted(Exception):
    """Scoring was stopped on request; the text says why."""


class _Interrupted(Exception):
    """The attempt itself ends, with `error`: the lease is lost, or the process has to exit."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass
class Row:
    """One example of the test split and both models' answers; None while there is no answer."""

    line: int
    question: Question
    answers: dict[Side, str | None] = field(default_factory=lambda: {"base": None, "tuned": None})


def score_version(
    job: TrainingJob,
    version: ModelVersion,
    enter: Callable[[str], None],
    halt_reason: Callable[[], str],
) -> None:
    """Score a ready version, once, and keep the scores and sample answers with it.

    `enter` names the stage and sends a heartbeat. `halt_reason` returns why scoring should stop, or
    an empty text; what it raises ends the attempt and is not recorded.
    """
    config = job.training_config.scoring
    if version.evaluation or (config.scorer == "none" and not config.lm_eval):
        return
    began = time.monotonic()
    metrics: dict[str, float] = {}
    scorer = job.model.task.scorer if config.scorer == "task" else config.scorer
    evaluation: dict[str, Any] = {"scorer": scorer, "max_tokens": config.max_tokens}
    problems: list[str] = []
    if job.crashes:
        problems.append("The training process died while it scored the version.")
    else:
        tick = _ticker(enter, halt_reason)
        for part in (_score_answers, _run_lm_eval):
            try:
                part(job, version, metrics, evaluation, tick)
            except (Halted, NoAnswer, Invalid) as reason:
                problems.append(str(reason))
            except _Interrupted as interrupted:
                raise interrupted.error from None
            except Exception as error:
                log.exception("scoring failed")
                problems.append(str(error) or type(error).__name__)
    evaluation |= {"seconds": round(time.monotonic() - began, 1), "problem": " ".join(problems)}
    ride_out(lambda: lifecycle.record_scores(version, metrics, evaluation))


def _ticker(enter: Callable[[str], None], halt_reason: Callable[[], str]) -> Tick:
    """A function to call at every step; once a second it sends a heartbeat and checks for a halt."""
    enter("scoring")
    ticked_at = time.monotonic()

    def tick(done: int, wanted: int) -> None:
        nonlocal ticked_at
        if time.monotonic() - ticked_at < _HEARTBEAT_S:
            return
        ticked_at = time.monotonic()
        try:
            enter(f"scoring {done} of {wanted}")
            reason = halt_reason()
        except Exception as error:
            raise _Interrupted(error) from error
        if reason:
            raise Halted(reason)

    return tick


# ---------------------------------------------------------------- answers


def _score_answers(
    job: TrainingJob,
    version: ModelVersion,
    metrics: dict[str, float],
    evaluation: dict[str, Any],
    tick: Tick,
) -> None:
    """Adds the scorer's figures for both sides to `metrics`; counts, samples and what the answers
    say together to `evaluation`. A version that has labels is asked for one of them, as when it is
    served, if labels are what is scored."""
    config, name = job.training_config.scoring, evaluation["scorer"]
    if name == "none":
        return
    test = snapshots.dataset_path(job.dataset) / "test.jsonl"
    if not test.is_file():
        raise NoAnswer("The data set has no test split, so the version was not scored.")
    rows, unscorable = select_examples(test, config.examples, job.training_config.thoughts)
    if not rows:
        raise NoAnswer("The test split has no examples with an expected answer.")
    if config.scorer == "task" and name == "json" and not all(map(_is_json, rows)):
        evaluation["scorer"] = name = "exact_match"  # what is extracted is not JSON here
    labels = version.answers_with if name == "label" else []
    _answer_all(rows, job, version, partial(choose, labels) if labels else answer, tick)
    answered = [row for row in rows if None not in row.answers.values()]
    if not answered:
        raise NoAnswer("Every prompt in the test split is longer than the model's context.")
    scorer = SCORERS[name]
    scores: list[dict[Side, float]] = [
        {
            side: scorer(words_of(row.question.expected), words_of(row.answers[side] or ""))
            for side in _SIDES
        }
        for row in answered
    ]
    for side, prefix in _PREFIXES.items():
        pairs = [
            (words_of(row.question.expected), words_of(row.answers[side] or "")) for row in answered
        ]
        mean = sum(score[side] for score in scores) / len(scores)
        figures, found = _together(name, mean, pairs, labels)
        metrics |= {f"{prefix}{figure}": value for figure, value in figures.items()}
        for report, content in found.items():
            evaluation.setdefault(report, {})[side] = content
    evaluation |= {
        "labels": len(labels),
        "examples": len(answered),
        "left_out": unscorable + len(rows) - len(answered),
        "samples": [
            {
                "line": row.line,
                "prompt": _short(row.question.prompt),
                "expected": _short(row.question.expected),
                **{side: _short(row.answers[side] or "") for side in _SIDES},
                **{f"{side}_score": score[side] for side in _SIDES},
            }
            for row, score in list(zip(answered, scores, strict=True))[:SAMPLES]
        ],
    }


def _together(
    scorer: str, mean: float, pairs: reports.Pairs, labels: Sequence[str]
) -> tuple[dict[str, float], dict[str, Any]]:
    """The figures of one side's answers by name, and their reports: `classes` or `fields`. An exact
    match is counted whatever the scorer is: rules of promotion from before the task chose it name it."""
    exact = {"exact_match": sum(exact_match(*pair) for pair in pairs) / len(pairs)}
    if scorer == "label":
        classes = reports.by_class(pairs, labels)
        figures = {name: classes[name] for name in ("accuracy", "macro_f1")}
        return figures | exact, {"classes": classes}
    if scorer == "json":
        fields = reports.by_field(pairs)
        ratios = {f"field_{name}": fields[name] for name in ("precision", "recall", "f1")}
        return {scorer: mean} | exact | ratios, {"fields": fields}
    return {scorer: mean} | exact, {}


def _is_json(row: Row) -> bool:
    return fields_of(words_of(row.question.expected)) is not None


def _short(text: str) -> str:
    text = text.replace("\0", "\ufffd")  # PostgreSQL cannot store NUL
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def select_examples(test: Path, most: int, thoughts: Thoughts = "kept") -> tuple[list[Row], int]:
    """At most `most` examples, spread evenly over the split, and how many of them were left out
    because they have no expected answer."""
    with test.open("rb") as file:
        total = sum(1 for line in file if line.strip())
    every = max(1, -(-total // most))  # rounded up
    rows, left_out = [], 0
    with test.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if (number - 1) % every or not line.strip():
                continue
            try:
                rows.append(Row(number, question(json.loads(line), thoughts)))
            except NoAnswer:
                left_out += 1
    return rows, left_out


def _answer_all(
    rows: Sequence[Row], job: TrainingJob, version: ModelVersion, ask: Ask, tick: Tick
) -> None:
    """Have both models answer every row, greedily."""
    gc.collect()  # frees the trained model, which has reference cycles, before another is loaded
    backend = get_backend(settings.BACKEND)
    base = registration.base_path(job.base_model)
    adapter = paths.absolute(version.artifact_path)
    sampling = Sampling(max_tokens=job.training_config.scoring.max_tokens)
    wanted = 2 * len(rows)
    if job.training_config.fine_tune_type == "lora":
        both = [(row, side) for row in rows for side in _SIDES]
        with closing(backend.load(base)) as model:
            ask(model, both, adapter, sampling, lambda done: tick(done, wanted))
        return
    with closing(backend.load(base)) as model:
        alone: list[tuple[Row, Side]] = [(row, "base") for row in rows]
        ask(model, alone, None, sampling, lambda done: tick(done, wanted))
    with closing(backend.load(base, adapter)) as model:
        tuned: list[tuple[Row, Side]] = [(row, "tuned") for row in rows]
        ask(model, tuned, None, sampling, lambda done: tick(len(rows) + done, wanted))


def answer(
    model: LoadedModel,
    wanted: Sequence[tuple[Row, Side]],
    adapter: Path | None,
    sampling: Sampling,
    tick: Callable[[int], None],
) -> None:
    """Fill in the wanted answers, ROWS at a time; the tuned side uses `adapter`. A prompt that is too
    long gets none. `tick` receives the number done at every step, and may raise to stop."""
    waiting = iter(wanted)
    running: dict[str, tuple[Row, Side, list[str]]] = {}
    done = 0
    while True:
        for row, side in islice(waiting, ROWS - len(running)):
            uid = f"{row.line}-{side}"
            prompt = model.encode(row.question.messages, row.question.tools)
            try:
                model.insert(uid, prompt, adapter if side == "tuned" else None, sampling)
            except PromptTooLong:
                done += 1
                continue
            running[uid] = (row, side, [])
        if not running:
            return
        for delta in model.step():
            row, side, text = running[delta.uid]
            text.append(delta.text)
            if delta.finish_reason:
                row.answers[side] = "".join(text)
                del running[delta.uid]
                done += 1
        tick(done)


def choose(
    labels: Sequence[str],
    model: LoadedModel,
    wanted: Sequence[tuple[Row, Side]],
    adapter: Path | None,
    sampling: Sampling,
    tick: Callable[[int], None],
) -> None:
    """As `answer`, with the likeliest of `labels`."""
    for done, (row, side) in enumerate(wanted, start=1):
        prompt = model.encode(row.question.messages, row.question.tools)
        with suppress(PromptTooLong):
            found = model.likelihoods(prompt, labels, adapter if side == "tuned" else None)
            row.answers[side] = max(zip(found, labels, strict=True), key=itemgetter(0))[1]
        tick(done)


# ---------------------------------------------------------------- lm-eval


def _run_lm_eval(
    job: TrainingJob,
    version: ModelVersion,
    metrics: dict[str, float],
    evaluation: dict[str, Any],
    tick: Tick,
) -> None:
    """Adds lm-eval's results by task, for the base and for the version."""
    config = job.training_config.scoring
    if not config.lm_eval:
        return
    backend = get_backend(settings.BACKEND)
    base, adapter = registration.base_path(job.base_model), paths.absolute(version.artifact_path)
    sides: dict[Side, dict[str, dict[str, float]]] = {}
    for done, side in enumerate(_SIDES):

        def progress(done: int = done) -> None:
            tick(done, len(_SIDES))

        used = adapter if side == "tuned" else None
        sides[side] = backend.run_lm_eval(base, used, config.lm_eval, config.examples, progress)
    evaluation["lm_eval"] = {
        task: {
            metric: {"base": value, "tuned": sides["tuned"].get(task, {}).get(metric)}
            for metric, value in results.items()
        }
        for task, results in sides["base"].items()
    }
    for prefix, measured in (("base_", sides["base"]), ("", sides["tuned"])):
        for task, results in measured.items():
            metrics |= {f"{prefix}{task}_{metric}": value for metric, value in results.items()}
