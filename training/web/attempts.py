"""The attempts of a job as a timeline: when, from which step to which, why each ended, what to do."""

from __future__ import annotations

from dataclasses import dataclass

from training.models import TrainingAttempt, TrainingJob
from training.queue.outcomes import MAX_CRASHES

Status = TrainingJob.Status


@dataclass(frozen=True)
class Entry:
    """One attempt. `state` and `words` are a badge's; `advice` is a sentence, or empty."""

    attempt: TrainingAttempt
    state: str
    words: str
    advice: str

    @property
    def seconds(self) -> float | None:
        """How long it ran; None while it does."""
        ended = self.attempt.ended_at
        return (ended - self.attempt.started_at).total_seconds() if ended else None


def timeline(job: TrainingJob) -> list[Entry]:
    """Newest first."""
    attempts = list(job.attempts.all()) if job.attempt else []
    following = [*attempts[1:], None]
    return [_entry(job, *pair) for pair in zip(attempts, following, strict=False)][::-1]


def _entry(job: TrainingJob, attempt: TrainingAttempt, after: TrainingAttempt | None) -> Entry:
    if attempt.ended_at is None:
        return Entry(attempt, "running", "Running", "")
    state, words = attempt.became, str(Status(attempt.became).label)
    if attempt.became == Status.QUEUED:
        paused = attempt.reason.startswith("Paused")
        state, words = ("paused", "Paused") if paused else ("warning", "Interrupted")
    return Entry(attempt, state, words, _after(job, after) if after else _next(job, attempt))


def _after(job: TrainingJob, after: TrainingAttempt) -> str:
    """What came of an earlier attempt."""
    return f"Attempt {after.number} {_where(after.first_iteration, 'continued', 'started')}."


def _next(job: TrainingJob, last: TrainingAttempt) -> str:
    """What to do after the last attempt."""
    where = _where(job.resumes_at, "continues", "starts")
    if job.status == Status.QUEUED and job.paused:
        return f"Resume the job when you like: it {where}."
    if job.status == Status.QUEUED:
        limit = f" It gives up after {MAX_CRASHES} crashes in a row without a new checkpoint."
        return f"Nothing to do: it {where} by itself.{limit if job.crashes else ''}"
    if last.became != Status.FAILED:
        return ""
    if job.can_halve:
        return (
            "Retry at half the batch size: it needs less memory, and each step still learns from as "
            "many examples."
        )
    if job.crashes >= MAX_CRASHES:
        return f"Read the end of the log below for the cause. A retry {where}."
    return (
        "Change the settings with “Use these settings again”: a retry with the same ones would most "
        "likely end in the same way."
    )


def _where(step: int, verb: str, begin: str) -> str:
    return f"{verb} from step {step}" if step else f"{begin} from the beginning"
