"""What a Mac decides otherwise, decided so here: an older SQLite, and 256 descriptors.

`just full` runs the whole suite so.
"""

from __future__ import annotations

import asyncio
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection, transaction

from backends.fake import FakeBackend
from hub import sqlite
from hub.models import SystemSample
from tests.databases import in_use
from tests.inference.builders import make_base_folder
from tests.inference.engines import ask, running_engine, text_of
from tests.training.build import claim, make_job
from training.models import TrainingJob

PYTHON_ORG = "3.49.1"  # the SQLite of python.org's 3.12


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """As many as a process of macOS may open at first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("version", "mode"),
    [(PYTHON_ORG, "DELETE"), ("3.50.4", "DELETE"), ("3.50.7", "WAL"), ("3.53.4", "WAL")],
)
def test_the_sqlite_of_likely_pythons_decides_the_journal(
    version: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_ASSUMED_SQLITE", version)
    assert sqlite.journal_mode() == mode
    assert f"journal_mode={mode};" in sqlite.pragmas()


@pytest.mark.django_db
@pytest.mark.any_database
@pytest.mark.parametrize("pragma", ["fullfsync", "checkpoint_fullfsync"])
def test_sqlite_pushes_to_the_disk_itself_where_it_can(pragma: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {pragma}")
        assert cursor.fetchone() == (1,)


@pytest.fixture
def rollback_journal(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """A copy of the test database, which other threads may hold open, as an older SQLite has it."""
    copy = tmp_path / "hub.sqlite3"
    sqlite.copy_file(Path(connection.settings_dict["NAME"]), copy)
    with monkeypatch.context() as older:
        older.setenv("HUB_ASSUMED_SQLITE", PYTHON_ORG)
        pragmas = sqlite.pragmas() + "PRAGMA synchronous=OFF;"
        before = settings.DATABASES["default"]
        options = {**before["OPTIONS"], "init_command": pragmas}
        with in_use({**before, "NAME": copy, "OPTIONS": options}):
            yield


@pytest.mark.any_database
def test_processes_share_a_database_without_a_write_ahead_log(
    rollback_journal: None, few_descriptors: None
) -> None:
    """Each thread reads, then writes, in one transaction and outside of one, as processes do; one
    keeps a cursor open meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone() == ("delete",)
    make_job()
    job = claim()
    begun = threading.Barrier(4)

    def sample() -> None:
        begun.wait()
        for _ in range(10):
            with transaction.atomic():
                before = SystemSample.objects.count()
                SystemSample.objects.create(
                    cpu_percent=before,
                    memory_used_bytes=1,
                    memory_total_bytes=2,
                    swap_used_bytes=0,
                    disk_free_bytes=1,
                )
        connection.close()

    def beat() -> None:
        begun.wait()
        for step in range(10):
            TrainingJob.objects.get(pk=job.pk).beat(job.lease, 30.0, iteration=step)
        connection.close()

    def read() -> None:
        begun.wait()
        for _ in range(10):
            for _ in SystemSample.objects.iterator(chunk_size=1):
                TrainingJob.objects.count()
        connection.close()

    with ThreadPoolExecutor(4) as pool:
        works = [pool.submit(work) for work in (sample, sample, beat, read)]
        for work in works:
            work.result(60)
    assert SystemSample.objects.count() == 20
    job.refresh_from_db()
    assert job.iteration == 9


def opened() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.any_database
async def test_streams_give_their_descriptors_back(few_descriptors: None) -> None:
    base = make_base_folder()
    async with running_engine(FakeBackend(tokens_per_second=500), max_queue=64) as engine:
        await text_of(ask(base))
        before = opened()
        for _ in range(4):  # each takes two of them in this process
            rows = (ask(base, request_id=f"{n}", max_tokens=8) for n in range(50))
            assert all(await asyncio.gather(*map(text_of, rows)))
        for _ in range(100):
            if opened() <= before:
                break
            await asyncio.sleep(0.02)
        assert opened() <= before
        assert engine.stats()["running"] == 0
