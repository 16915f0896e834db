"""What the finished model can do that its base could not: both answer the test split, and the
answers are compared with the right ones.

It happens in the job's child once the version is ready, so no failure here can lose the version:
it is recorded in place of the figures. LoRA adapters answer beside their base in one batch; other
fine-tunes are loaded after it.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import structlog
from django.conf import settings

from backends import get_backend
from backends.base import LoadedModel, PromptTooLong, Sampling
from backends.scorers import SCORERS, NoAnswer, Question, question
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
_BEAT_S = 1.0

type Side = Literal["base", "tuned"]
type Ask = Callable[[int, int], None]

log = structlog.get_logger(__name__)


class Halted(Exception):
    """Scoring was ended from outside; the text says why."""


class _Outside(Exception):
    """Not scoring failed but what it reports to: the lease is lost, or the process has to end."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass
class Row:
    """One example of the test split and what both models answered; None is not yet."""

    line: int
    question: Question
    answers: dict[Side, str | None] = field(default_factory=lambda: {"base": None, "tuned": None})


def judge(
    job: TrainingJob,
    version: ModelVersion,
    enter: Callable[[str], None],
    stopped: Callable[[], str],
) -> None:
    """Score a ready version and keep figures and sample answers with it; once is enough.

    `enter` names the stage and is the heartbeat; `stopped` gives a reason to end early, and raises
    what must not be recorded.
    """
    config = job.training_config.scoring
    if version.evaluation or (config.scorer == "none" and not config.lm_eval):
        return
    began = time.monotonic()
    metrics: dict[str, float] = {}
    found: dict[str, Any] = {"scorer": config.scorer, "max_tokens": config.max_tokens}
    problems: list[str] = []
    if job.crashes:
        problems.append("The training process died while it scored the version.")
    else:
        ask = _asking(enter, stopped)
        for part in (_answers, _tasks):
            if problem := _tried(part, job, version, metrics, found, ask):
                problems.append(problem)
    found |= {"seconds": round(time.monotonic() - began, 1), "problem": " ".join(problems)}
    ride_out(lambda: lifecycle.record_scores(version, metrics, found))


def _tried(part: Callable[..., None], *arguments: Any) -> str:
    """Why the part failed, if it did."""
    try:
        part(*arguments)
    except (Halted, NoAnswer, Invalid) as reason:
        return str(reason)
    except _Outside as outside:
        raise outside.error from None
    except Exception as error:
        log.exception("scoring failed")
        return str(error) or type(error).__name__
    return ""


def _asking(enter: Callable[[str], None], stopped: Callable[[], str]) -> Ask:
    """What is called at every step with answers done and wanted; it acts once a second."""
    enter("scoring")
    spoken = time.monotonic()

    def ask(done: int, wanted: int) -> None:
        nonlocal spoken
        if time.monotonic() - spoken < _BEAT_S:
            return
        spoken = time.monotonic()
        try:
            enter(f"scoring {done} of {wanted}")
            reason = stopped()
        except Exception as error:
            raise _Outside(error) from error
        if reason:
            raise Halted(reason)

    return ask


# ---------------------------------------------------------------- answers


def _answers(
    job: TrainingJob,
    version: ModelVersion,
    metrics: dict[str, float],
    found: dict[str, Any],
    ask: Ask,
) -> None:
    """Adds the scorer's two means to `metrics`, counts and samples to `found`."""
    config = job.training_config.scoring
    if config.scorer == "none":
        return
    test = snapshots.dataset_path(job.dataset) / "test.jsonl"
    if not test.is_file():
        raise NoAnswer("The data set has no test split to score answers on.")
    rows, unscorable = chosen(test, config.examples)
    if not rows:
        raise NoAnswer("The test split has no answer that could be compared with another.")
    _fill(rows, job, version, config.max_tokens, ask)
    answered = [row for row in rows if None not in row.answers.values()]
    if not answered:
        raise NoAnswer("Every prompt of the test split is longer than the model's context.")
    scorer = SCORERS[config.scorer]
    scores: list[dict[Side, float]] = [
        {side: scorer(row.question.expected, row.answers[side] or "") for side in _SIDES}
        for row in answered
    ]
    metrics[config.scorer] = _mean(score["tuned"] for score in scores)
    metrics[f"base_{config.scorer}"] = _mean(score["base"] for score in scores)
    found |= {
        "examples": len(answered),
        "left_out": unscorable + len(rows) - len(answered),
        "samples": [_kept(row, score) for row, score in zip(answered, scores, strict=True)][
            :SAMPLES
        ],
    }


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)


_SIDES: tuple[Side, Side] = ("base", "tuned")


def chosen(test: Path, most: int) -> tuple[list[Row], int]:
    """At most `most` examples spread evenly over the split, and how many of those had no answer
    that could be scored."""
    with test.open("rb") as file:
        total = sum(1 for line in file if line.strip())
    every = max(1, -(-total // most))
    rows, left_out = [], 0
    with test.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if (number - 1) % every or not line.strip():
                continue
            try:
                rows.append(Row(number, question(json.loads(line))))
            except NoAnswer:
                left_out += 1
    return rows, left_out


def _fill(
    rows: Sequence[Row], job: TrainingJob, version: ModelVersion, max_tokens: int, ask: Ask
) -> None:
    """Have both models answer every row, greedily."""
    gc.collect()  # the trained model, which is in cycles, and memory is short
    backend = get_backend(settings.BACKEND)
    base = registration.base_path(job.base_model)
    adapter = paths.absolute(version.artifact_path)
    sampling = Sampling(max_tokens=max_tokens)
    wanted = 2 * len(rows)
    if job.training_config.fine_tune_type == "lora":
        both = [(row, side) for row in rows for side in _SIDES]
        with closing(backend.load(base)) as model:
            answer(model, both, adapter, sampling, lambda done: ask(done, wanted))
        return
    with closing(backend.load(base)) as model:
        alone: list[tuple[Row, Side]] = [(row, "base") for row in rows]
        answer(model, alone, None, sampling, lambda done: ask(done, wanted))
    with closing(backend.load(base, adapter)) as model:
        tuned: list[tuple[Row, Side]] = [(row, "tuned") for row in rows]
        answer(model, tuned, None, sampling, lambda done: ask(len(rows) + done, wanted))


def answer(
    model: LoadedModel,
    asked: Sequence[tuple[Row, Side]],
    adapter: Path | None,
    sampling: Sampling,
    tick: Callable[[int], None],
) -> None:
    """Fill in the answers asked for, ROWS at a time; the tuned side uses `adapter`. A prompt that is
    too long stays without. `tick` hears at every step how many are done, and may raise."""
    waiting = iter(asked)
    running: dict[str, tuple[Row, Side, list[str]]] = {}
    done = 0
    while True:
        for row, side in _next(waiting, ROWS - len(running)):
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


def _next[T](waiting: Iterator[T], count: int) -> list[T]:
    return [item for _, item in zip(range(count), waiting, strict=False)]


def _kept(row: Row, score: dict[Side, float]) -> dict[str, Any]:
    return {
        "line": row.line,
        "prompt": _short(row.question.prompt),
        "expected": _short(row.question.expected),
        **{side: _short(row.answers[side] or "") for side in _SIDES},
        **{f"{side}_score": score[side] for side in _SIDES},
    }


def _short(text: str) -> str:
    text = text.replace("\0", "\ufffd")  # PostgreSQL keeps no NUL
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


# ---------------------------------------------------------------- lm-eval


def _tasks(
    job: TrainingJob,
    version: ModelVersion,
    metrics: dict[str, float],
    found: dict[str, Any],
    ask: Ask,
) -> None:
    """Adds lm-eval's figures by task, of the base and of the version."""
    config = job.training_config.scoring
    if not config.lm_eval:
        return
    backend = get_backend(settings.BACKEND)
    base, adapter = registration.base_path(job.base_model), paths.absolute(version.artifact_path)
    sides: dict[Side, dict[str, dict[str, float]]] = {}
    for done, side in enumerate(_SIDES):

        def tick(done: int = done) -> None:
            ask(done, len(_SIDES))

        given = adapter if side == "tuned" else None
        sides[side] = backend.run_lm_eval(base, given, config.lm_eval, config.examples, tick)
    found["lm_eval"] = {
        task: {
            metric: {"base": value, "tuned": sides["tuned"].get(task, {}).get(metric)}
            for metric, value in figures.items()
        }
        for task, figures in sides["base"].items()
    }
    for prefix, measured in (("base_", sides["base"]), ("", sides["tuned"])):
        for task, figures in measured.items():
            metrics |= {f"{prefix}{task}_{metric}": value for metric, value in figures.items()}
