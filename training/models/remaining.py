"""How long a running job still takes, with the validations, the saving and the scoring that follow its
steps: from what it has measured itself, and until then from what a similar job measured."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils import timezone

from registry.storage.sizes import about
from training.models.progress import Progressing

_DOING = {
    "evaluating": "Measuring the loss of the result",
    "publishing": "Saving the version",
    "comparing": "Comparing with the version",
    "scoring": "Answering the test examples",
}


@dataclass(frozen=True)
class Remaining:
    """`seconds` of all parts whose time is known, or None; `doing` names what runs after the last
    step, `then` what follows and takes nobody knows how long."""

    seconds: float | None = None
    doing: str = ""
    then: str = ""

    def __str__(self) -> str:
        """`about 54 s left, then scoring`; empty while nothing is known."""
        time = "" if self.seconds is None else f"{about(self.seconds)} left"
        told = ", ".join(filter(None, (self.doing, time)))
        return f"{told}, then {self.then}" if told and self.then else told


def validations(first: int, last: int, every: int) -> int:
    """How many validations follow steps after `first` up to `last`: every so many, and at the end."""
    if last <= first:
        return 0
    return last // every - first // every + bool(last % every)


def remaining(job: Progressing, total: int, every: int, scored: bool) -> Remaining:
    """Of a running job, nothing of another one: it takes `total` steps, validates after `every` so
    many, and its result is `scored` or not."""
    if job.status != job.Status.RUNNING:
        return Remaining()
    stage = job.stage.split(" ")[0]
    spent = (timezone.now() - job.stage_since).total_seconds() if job.stage_since else 0.0
    if stage == "scoring":
        return Remaining(_scoring_left(job, spent), _DOING["scoring"])
    known = job.durations
    scoring = known.get("scoring") if scored else 0.0
    after = known.get("publishing", 0.0) + (scoring or 0.0)
    then = "scoring" if scoring is None else ""
    if stage in ("publishing", "comparing"):
        return Remaining(max(0.0, after - spent) or None, _DOING[stage], then)
    measuring = known.get("validation", 0.0) + known.get("test", 0.0)
    if stage == "evaluating" and job.iteration >= total:
        left = measuring - spent
        return Remaining(left + after if left > 0 else None, _DOING[stage], then)
    if "step" not in known:
        return Remaining()
    due = validations(job.iteration, total, every)
    left = (total - job.iteration) * known["step"] + due * known.get("validation", 0.0)
    if stage == "evaluating":
        left += max(0.0, known.get("validation", 0.0) - spent)
    elif stage != "training":
        left += max(0.0, known.get("start", 0.0) - spent)
    return Remaining(left + known.get("test", 0.0) + after, then=then)


def _scoring_left(job: Progressing, spent: float) -> float | None:
    """By how many answers there are already (`scoring 12 of 40`), else as planned; None when it
    takes longer than that."""
    words = job.stage.split(" ")
    if len(words) == 4 and (done := int(words[1])):
        return max(0.0, spent * (int(words[3]) - done) / done)
    left = job.durations.get("scoring", 0.0) - spent
    return left if left > 0 else None
