"""What happens when clients leave, queues fill and the engine dies: real processes."""

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.inference.processes import Hub, wait_for

ASK: Any = [{"role": "user", "content": "Lunch with Ana next Friday at noon"}]

JOB = """
import django; django.setup()
from tests.training.build import claim, make_job
from training import queue
from training.models import TrainingJob
job = TrainingJob.objects.running().first() or (make_job(), claim())[1]
{}
"""
# Other tests list all that the hub serves.
GONE = "for one in (job, job.model, job.model.base_model): one.delete()"

any_database = pytest.mark.any_database  # the others read the request log


def start(hub: Hub) -> None:
    """20 tokens a second, replies that take 5 s, and two rows at once."""
    hub.start_engine("--max-rows", "2", TOKENS_PER_SECOND=20, REPLY_WORDS=100)


@pytest.fixture(scope="module")
def slow_engine(processes: Hub) -> Iterator[Hub]:
    start(processes)
    yield processes
    processes.start_engine()


@pytest.fixture
def hub(slow_engine: Hub) -> Hub:
    if slow_engine.engine is None:
        start(slow_engine)
    wait_for(lambda: slow_engine.stats()["running"] == 0)
    return slow_engine


@any_database
async def test_a_full_queue_says_429_and_when_to_come_back(hub: Hub) -> None:
    async with hub.async_openai() as client:
        waiting = [
            asyncio.create_task(client.chat.completions.create(model="calendar", messages=ASK))
            for _ in range(6)  # two run, four wait
        ]
        while (stats := hub.stats())["running"] + stats["waiting"] < 6:
            await asyncio.sleep(0.02)
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="calendar", messages=ASK)
        assert int(caught.value.response.headers["Retry-After"]) > 0
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def test_leaving_a_stream_frees_its_row(hub: Hub) -> None:
    stream = hub.openai.chat.completions.create(model="calendar", messages=ASK, stream=True)
    for _ in range(3):
        next(stream)
    assert hub.stats()["running"] == 1
    stream.close()
    wait_for(lambda: hub.stats()["running"] == 0)
    wait_for(lambda: hub.requests()[0]["status"] == "cancelled")


async def test_leaving_without_a_stream_frees_the_row_too(hub: Hub) -> None:
    async with hub.async_openai() as client:
        task = asyncio.create_task(client.chat.completions.create(model="calendar", messages=ASK))
        while hub.stats()["running"] == 0:
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    wait_for(lambda: hub.stats()["running"] == 0)
    wait_for(lambda: hub.requests()[0]["status"] == "cancelled")


def test_killing_the_engine_ends_the_stream_clearly_and_the_next_request_works(
    hub: Hub,
) -> None:
    stream = hub.openai.chat.completions.create(model="calendar", messages=ASK, stream=True)
    next(stream)
    next(stream)
    hub.stop_engine(signal.SIGKILL)
    with pytest.raises(openai.APIError, match="engine stopped while answering"):
        list(stream)
    with pytest.raises(openai.InternalServerError, match="engine is not running") as caught:
        hub.openai.chat.completions.create(model="calendar", messages=ASK)
    assert caught.value.status_code == 503
    assert "Retry-After" in caught.value.response.headers
    start(hub)
    answer = hub.openai.chat.completions.create(model="calendar", messages=ASK, max_tokens=3)
    assert answer.choices[0].message.content
    assert [row["status"] for row in hub.requests()[:3]] == ["completed", "failed", "failed"]


@any_database
async def test_killing_the_engine_ends_every_open_stream_and_whoever_waits(hub: Hub) -> None:
    async with hub.async_openai() as client:

        async def read() -> None:
            stream = await client.chat.completions.create(
                model="calendar", messages=ASK, stream=True
            )
            async for _ in stream:
                pass

        asked = [asyncio.create_task(read()) for _ in range(5)]  # two run, three wait
        while (stats := hub.stats())["running"] + stats["waiting"] < 5:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(hub.stop_engine, signal.SIGKILL)
        ends = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 5)
    assert all(isinstance(end, openai.APIError) for end in ends), ends
    assert all("engine stopped while answering" in str(end) for end in ends), ends


@any_database
def test_a_stopped_engine_lets_what_runs_finish(hub: Hub) -> None:
    stream = hub.openai.chat.completions.create(
        model="calendar", messages=ASK, stream=True, max_tokens=30
    )
    next(stream)
    next(stream)
    assert hub.stop_engine() == 0
    assert list(stream)[-1].choices[0].finish_reason == "length"


@any_database
def test_the_engine_learns_of_a_job_though_it_has_no_tables_yet(hub: Hub) -> None:
    assert hub.stats()["taken_bytes"] == 0
    started = hub.run("-c", JOB.format("job.write_held(job.lease, memory_estimate_bytes=700)"))
    assert started.returncode == 0, started.stderr
    wait_for(lambda: hub.stats()["taken_bytes"] == 700)
    ended = hub.run(
        "-c", JOB.format("queue.fail(job, job.lease, 'It went wrong.'); queue.claim()\n" + GONE)
    )
    assert ended.returncode == 0, ended.stderr
    wait_for(lambda: hub.stats()["taken_bytes"] == 0)


@any_database
def test_a_second_engine_is_refused(hub: Hub) -> None:
    second = hub.run("manage.py", "run_engine")
    assert second.returncode != 0
    assert "already uses" in second.stderr
    assert hub.stats()["pid"] == hub.engine_pid
