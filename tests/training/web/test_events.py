"""Following a job over server-sent events: nothing missed, nothing sent twice, and an end."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from django.utils import timezone

from registry.background import shutdown
from tests.training.build import claim, make_job
from training import queue
from training.attempt import runner
from training.models import TrainingJob, TrainingMetric, TrainingSample
from training.web import events
from training.web.events import Cursor, Follower

Event = tuple[str, dict[str, Any], str]


def parse(raw: bytes) -> list[Event]:
    """(event, data, id) of each frame."""
    found = []
    for frame in raw.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if ": " in line)
        if "event" in fields:
            found.append((fields["event"], json.loads(fields["data"]), fields["id"]))
    return found


def look(follower: Follower) -> list[Event]:
    return parse(b"".join(follower.poll()[0]))


def names(found: list[Event]) -> list[str]:
    return [event for event, _, _ in found]


def iterations(found: list[Event]) -> list[int]:
    return [step for name, data, _ in found if name == "metrics" for step in data["iteration"]]


def running_job() -> TrainingJob:
    make_job()
    return claim()


def measure(job: TrainingJob, *steps: int, **values: Any) -> None:
    for step in steps:
        values = {"train_loss": 1 / step, **values}
        TrainingMetric.objects.update_or_create(job=job, iteration=step, defaults=values)
    last = TrainingMetric.objects.filter(job=job).count()
    TrainingJob.objects.filter(pk=job.pk).update(iteration=last, heartbeat_at=timezone.now())


@pytest.mark.django_db
class TestLooking:
    def test_only_what_is_new_is_said(self) -> None:
        job = running_job()
        measure(job, 1, 2)
        follower = Follower(job.pk, Cursor())
        first = look(follower)
        assert names(first) == ["status", "progress", "metrics"]
        assert iterations(first) == [1, 2]
        assert look(follower) == []
        measure(job, 3)
        assert names(look(follower)) == ["progress", "metrics"]

    def test_a_later_validation_loss_is_sent_with_its_step(self) -> None:
        job = running_job()
        measure(job, 1)
        follower = Follower(job.pk, Cursor())
        look(follower)
        measure(job, 1, val_loss=0.5)
        [metrics] = [data for name, data, _ in look(follower) if name == "metrics"]
        assert (metrics["iteration"], metrics["val_loss"]) == ([1], [0.5])

    def test_a_client_that_reconnects_continues_where_it_was(self) -> None:
        job = running_job()
        measure(job, 1, 2)
        last = look(Follower(job.pk, Cursor()))[-1][2]
        measure(job, 3)
        assert iterations(look(Follower(job.pk, Cursor.parse(last)))) == [2, 3]
        assert iterations(look(Follower(job.pk, Cursor.parse("2")))) == [2, 3]

    def test_steps_measured_again_are_withdrawn_first(self) -> None:
        job = running_job()
        measure(job, 1, 2, 3, 4)
        follower = Follower(job.pk, Cursor())
        look(follower)
        job.metrics.filter(iteration__gt=2).delete()
        measure(job, 3, 4, 5)
        found = look(follower)
        assert ("rewind", {"iteration": 2}) in [event[:2] for event in found]
        assert iterations(found) == [2, 3, 4, 5]

    def test_events_stay_small_however_far_behind_a_client_is(self) -> None:
        job = running_job()
        TrainingMetric.objects.bulk_create(
            TrainingMetric(
                job=job,
                iteration=step,
                train_loss=1 / 3,
                val_loss=1 / 7,
                learning_rate=1 / 9,
                grad_norm=1 / 11,
                tokens_per_second=1e5 / 3,
                peak_memory_bytes=12_345_678_901,
            )
            for step in range(1, 451)
        )
        follower, seen = Follower(job.pk, Cursor()), []
        while follower.is_behind:
            frames, _ = follower.poll()
            assert max(map(len, frames)) < 700
            seen += iterations(parse(b"".join(frames)))
        assert sorted(set(seen)) == list(range(1, 451))

    def test_sample_answers_are_clipped(self) -> None:
        job = running_job()
        fields = {"iteration": 5, "line": 1, "prompt": "p" * 999, "expected": "e"}
        TrainingSample.objects.create(job=job, answer="a", **fields)
        [sample] = [data for name, data, _ in look(Follower(job.pk, Cursor())) if name == "sample"]
        assert len(sample["prompt"]) == 280
        assert (sample["expected"], sample["answer"]) == ("e", "a")

    def test_a_changed_situation_is_a_status(self) -> None:
        job = running_job()
        follower = Follower(job.pk, Cursor())
        look(follower)
        TrainingJob.objects.filter(pk=job.pk).update(yielding="someone is chatting")
        [(name, data, _)] = look(follower)
        assert name == "status"
        assert data["situation"] == "Paused for now: someone is chatting."


@pytest.mark.any_database
@pytest.mark.parametrize("text", ["", "x", "-1", "1-x", "9" * 40])
def test_a_nonsensical_cursor_is_the_beginning(text: str) -> None:
    assert Cursor.parse(text) == Cursor()


def finished() -> TrainingJob:
    job = running_job()
    runner.run(job.pk, job.lease, lambda: "")
    return TrainingJob.objects.get(pk=job.pk)


async def body_of(response: Any) -> bytes:
    stream: AsyncIterator[bytes] = response.streaming_content
    return b"".join([part async for part in stream])


@pytest.mark.django_db(transaction=True)
async def test_a_finished_job_is_sent_in_full_and_the_stream_ends(
    async_client: AsyncClient,
) -> None:
    job = await sync_to_async(finished)()
    path = f"/api/training/jobs/{job.pk}/events"
    response = await async_client.get(path)
    assert response.headers["Content-Type"].startswith("text/event-stream")
    found = parse(await body_of(response))
    assert names(found)[:2] == ["status", "progress"]
    assert iterations(found) == list(range(1, 21))
    assert found[-1][:2] == (
        "end",
        {"status": "completed", "iteration": 20, "error_message": "", "version": "0.1.0"},
    )
    again = await async_client.get(path, headers={"Last-Event-ID": found[-1][2]})
    assert iterations(parse(await body_of(again))) == [20]


@pytest.mark.django_db(transaction=True)
async def test_a_stream_runs_until_the_job_finishes(
    async_client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "POLL_S", 0.02)
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.04)
    job = await sync_to_async(make_job)()
    response: Any = await async_client.get(f"/api/training/jobs/{job.pk}/events")
    stream = aiter(response.streaming_content)
    assert "Next in the queue." in (await anext(stream)).decode()
    assert await anext(stream) == b": still here\n\n"
    await sync_to_async(queue.cancel)(job)
    async with asyncio.timeout(5):
        rest = b"".join([part async for part in stream])
    assert names(parse(rest))[-1] == "end"
    assert events.open_streams() == 0


@pytest.mark.django_db(transaction=True)
async def test_a_client_that_disconnects_ends_its_stream(async_client: AsyncClient) -> None:
    job = await sync_to_async(make_job)()
    frames = events.stream(job.pk, Cursor())
    await anext(frames)
    assert events.open_streams() == 1
    await frames.aclose()
    assert events.open_streams() == 0


@pytest.mark.django_db(transaction=True)
async def test_shutdown_does_not_wait_for_event_streams(
    async_client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "POLL_S", 0.02)
    told_to_end = threading.Event()
    monkeypatch.setattr(shutdown, "requested", told_to_end)
    job = await sync_to_async(make_job)()
    frames = events.stream(job.pk, Cursor())
    await anext(frames)
    told_to_end.set()
    async with asyncio.timeout(5):
        assert [frame async for frame in frames] == []


@pytest.mark.django_db(transaction=True)
async def test_a_job_that_cannot_be_followed_gets_an_ordinary_response(
    async_client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await async_client.get("/api/training/jobs/999/events")).status_code == 404
    monkeypatch.setattr(events, "MAX_STREAMS", 0)
    job = await sync_to_async(make_job)()
    full = await async_client.get(f"/api/training/jobs/{job.pk}/events")
    assert full.status_code == 503
    assert full.headers["Retry-After"]
