"""A running job as server-sent events: status, progress, metrics, samples, end.

Every event's id is a cursor, so that a client that reconnects with `Last-Event-ID` misses nothing
and gets nothing twice. The database is polled once a second, with one small query as long as the
job's row has not changed; between polls a stream costs nothing.
"""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Self

from asgiref.sync import sync_to_async
from django.db import close_old_connections
from django.db.models import Max
from django.http import StreamingHttpResponse

from registry.background import shutdown
from registry.errors import NotFound, Unavailable
from registry.versions import curves
from registry.web.numbers import whole
from training.models import TrainingJob, TrainingMetric
from training.web import overview

POLL_S = 1.0
KEEP_ALIVE_S = 15.0  # proxies close connections that are silent for long
MAX_STREAMS = 64  # each holds a sleeping thread, and briefly a database connection
_BATCH = 200  # metrics read per poll at most
_ROWS = 3  # metrics per event, which keeps an event at a few hundred bytes
_CLIP = 280  # characters of a sample's texts; GET …/samples has the full texts

_open = 0


@dataclass(frozen=True)
class Cursor:
    """What a client already has: metrics up to `iteration`, measured at `moment` (UTC microseconds),
    and samples up to the row `sample`."""

    iteration: int = -1
    moment: int = 0
    sample: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `ITERATION` or `ITERATION-MOMENT-SAMPLE`; anything else means the start."""
        parts = [whole(part) for part in text.split("-")] if text else []
        numbers = [part for part in parts if part is not None]
        return cls(*numbers[:3]) if len(numbers) == len(parts) else cls()

    def __str__(self) -> str:
        return f"{max(0, self.iteration)}-{self.moment}-{self.sample}"


@dataclass
class Follower:
    """What one client knows about a job; `poll` reads what is new."""

    job_id: int
    cursor: Cursor
    is_behind: bool = True  # more rows can be read at once
    _sent: dict[str, str] = field(default_factory=dict)
    _row: tuple[Any, ...] = ()
    _value: tuple[Any, ...] = ()

    def poll(self) -> tuple[list[bytes], bool]:
        """Events since the last poll, and whether the job has finished. Raises NotFound."""
        jobs = TrainingJob.objects.select_related("result_version", "dataset")
        job = jobs.filter(pk=self.job_id).first()
        if job is None:
            raise NotFound(f"There is no job {self.job_id}.")
        return list(self._events(job)), job.is_over and not self.is_behind

    def _events(self, job: TrainingJob) -> Iterator[bytes]:
        yield from self._if_new("status", status_of(job))
        row = (job.heartbeat_at, job.iteration, job.attempt, job.status)
        if row != self._row or self.is_behind:
            self._row = row
            yield from self._if_new("progress", progress_of(job))
            yield from self._metrics(job)
            yield from self._samples(job)
        if job.is_over and not self.is_behind:
            yield self._frame("end", end_of(job))

    def _metrics(self, job: TrainingJob) -> Iterator[bytes]:
        if self.cursor.moment:
            newest = job.metrics.filter(iteration=self.cursor.iteration).first()
            if newest is None or _moment(newest.created_at) != self.cursor.moment:
                # After a resume the newest known row is gone or was measured again. Rows that are
                # older than it still exist.
                last = self._last_unchanged(job)
                self.cursor = replace(self.cursor, iteration=last, moment=0)
                self._value = ()
                yield self._frame("rewind", {"iteration": last})
        # Reads the newest row again, because its validation loss is written later. After a reconnect
        # it is unknown what was sent of that row, so it is sent again.
        rows = job.metrics.filter(iteration__gte=self.cursor.iteration).order_by("iteration")
        found = list(rows[:_BATCH])
        self.is_behind = len(found) == _BATCH
        fresh = [
            row
            for row in found
            if row.iteration > self.cursor.iteration or _values(row) != self._value
        ]
        for start in range(0, len(fresh), _ROWS):
            part = fresh[start : start + _ROWS]
            last_row = part[-1]
            self._value = _values(last_row)
            self.cursor = replace(
                self.cursor, iteration=last_row.iteration, moment=_moment(last_row.created_at)
            )
            yield self._frame("metrics", columns_of(part))

    def _last_unchanged(self, job: TrainingJob) -> int:
        """The last iteration that was measured no later than the cursor's moment."""
        seconds, microseconds = divmod(self.cursor.moment, 1_000_000)
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(
            microsecond=microseconds
        )
        kept = job.metrics.filter(created_at__lte=moment, iteration__lte=self.cursor.iteration)
        return int(kept.aggregate(last=Max("iteration"))["last"] or 0)

    def _samples(self, job: TrainingJob) -> Iterator[bytes]:
        for sample in job.samples.filter(pk__gt=self.cursor.sample).order_by("pk"):
            self.cursor = replace(self.cursor, sample=sample.pk)
            texts = {
                name: _clip(getattr(sample, name)) for name in ("prompt", "expected", "answer")
            }
            yield self._frame(
                "sample", {"iteration": sample.iteration, "line": sample.line, **texts}
            )

    def _if_new(self, event: str, data: dict[str, Any]) -> Iterator[bytes]:
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        if self._sent.get(event) != text:
            self._sent[event] = text
            yield self._frame(event, text)

    def _frame(self, event: str, data: dict[str, Any] | str) -> bytes:
        if not isinstance(data, str):
            data = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        return f"event: {event}\nid: {self.cursor}\ndata: {data}\n\n".encode()


def status_of(job: TrainingJob) -> dict[str, Any]:
    """What the page needs to choose its buttons and texts."""
    place = overview.place_of(job)
    return {
        "status": job.status,
        "stage": job.stage,
        "situation": overview.situation(job, place),
        "place": place,
        "paused": job.paused,
        "cancel_requested": job.cancel_requested,
        "attempt": job.attempt,
    }


def progress_of(job: TrainingJob) -> dict[str, Any]:
    remaining = job.remaining
    return {
        "iteration": job.iteration,
        "total_iters": job.total_iters,
        "progress": round(job.progress, 4),
        "seconds_left": None if remaining.seconds is None else round(remaining.seconds, 1),
        "left": str(remaining),
        "tokens_per_second": job.tokens_per_second,
        "peak_memory_bytes": job.peak_memory_bytes,
        "checkpoint_iteration": job.checkpoint_iteration,
        "yielded_s": round(job.yielded_s, 1),
    }


def columns_of(rows: list[TrainingMetric]) -> dict[str, list[Any]]:
    return {name: [getattr(row, name) for row in rows] for name in ("iteration", *curves.SERIES)}


def end_of(job: TrainingJob) -> dict[str, Any]:
    version = job.result_version
    return {
        "status": job.status,
        "iteration": job.iteration,
        "error_message": job.error_message,
        "version": version.version if version and job.status == "completed" else None,
    }


async def stream(job_id: int, cursor: Cursor) -> AsyncGenerator[bytes]:
    """The events of a job after `cursor`, until the job finishes, the client leaves or this process
    shuts down; then clients reconnect to the next process.

    The first frame comes after the first poll, so that a missing job can be an ordinary 404.
    Raises NotFound and, when too many streams are open, Unavailable.
    """
    global _open
    if _open >= MAX_STREAMS:
        raise Unavailable(
            f"{MAX_STREAMS} clients already follow jobs, which is the limit; poll the job instead."
        )
    follower = Follower(job_id, cursor)
    _open += 1
    try:
        frames, over = await _poll(follower)
        yield b"retry: 2000\n\n" + b"".join(frames)
        silent_s = 0.0
        while not over and not shutdown.requested.is_set():
            if not follower.is_behind:
                await asyncio.sleep(POLL_S)
                silent_s += POLL_S
            frames, over = await _poll(follower)
            if frames or silent_s >= KEEP_ALIVE_S:
                silent_s = 0.0
                yield b"".join(frames) or b": still here\n\n"
    finally:
        _open -= 1


def response(first: bytes, frames: AsyncGenerator[bytes]) -> StreamingHttpResponse:
    """Streams `first` and `frames` without buffering; `frames` is closed when the client leaves."""
    return StreamingHttpResponse(
        _all(first, frames),
        content_type="text/event-stream; charset=utf-8",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _all(first: bytes, frames: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    async with aclosing(frames):
        yield first
        async for frame in frames:
            yield frame


def open_streams() -> int:
    return _open


@sync_to_async
def _poll(follower: Follower) -> tuple[list[bytes], bool]:
    """Runs in the request's thread and releases its database connection between polls."""
    try:
        return follower.poll()
    finally:
        close_old_connections()


def _values(row: TrainingMetric) -> tuple[Any, ...]:
    return (row.iteration, *(getattr(row, name) for name in curves.SERIES))


def _moment(when: datetime.datetime) -> int:
    return int(when.timestamp()) * 1_000_000 + when.microsecond


def _clip(text: str) -> str:
    return text if len(text) <= _CLIP else f"{text[: _CLIP - 1]}…"
