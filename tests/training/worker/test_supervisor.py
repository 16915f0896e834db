"""How a child's exit is interpreted, without starting a real one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from tests.backends.test_failures import INTERRUPTED
from tests.training.build import claim, make_job
from training.machine import processes, readings
from training.models import LeaseLost, TrainingJob
from training.worker import supervisor

pytestmark = pytest.mark.django_db

Status = TrainingJob.Status


def attempt_that(script: str, monkeypatch: pytest.MonkeyPatch) -> TrainingJob:
    """Run an attempt whose child is this Python script."""

    def spawn(job: TrainingJob, lease: object) -> subprocess.Popen[bytes]:
        path = supervisor.log_path(job)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-c", script], stderr=output, start_new_session=True
            )

    monkeypatch.setattr(supervisor, "_spawn", spawn)
    make_job(batch_size=4)
    supervisor.run_attempt(claim())
    return TrainingJob.objects.get()


ABORT = "import os, sys; sys.stderr.write({!r}); sys.stderr.flush(); os.abort()"


def test_an_abort_whose_log_mentions_memory_is_out_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = "[METAL] Command buffer execution failed: Insufficient Memory"
    job = attempt_that(ABORT.format(words), monkeypatch)
    assert (job.status, job.out_of_memory) == (Status.QUEUED, True)
    assert "ran out of memory" in job.wait_reason


def test_an_abort_by_the_gpus_watchdog_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    job = attempt_that(ABORT.format(INTERRUPTED), monkeypatch)
    assert (job.status, job.out_of_memory) == (Status.FAILED, False)
    assert "AGX_RELAX_CDM_CTXSTORE_TIMEOUT=1" in job.error_message


@pytest.mark.parametrize(("platform", "most"), [("darwin", "16"), ("linux", None)])
def test_on_a_mac_a_step_is_handed_over_in_small_buffers(
    platform: str, most: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, given = make_job(), dict[str, str]()
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(subprocess, "Popen", lambda *a, env, **k: given.update(env))
    for name in ("MLX_MAX_OPS_PER_BUFFER", "MLX_MAX_MB_PER_BUFFER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AGX_RELAX_CDM_CTXSTORE_TIMEOUT", "1")
    supervisor._spawn(job, uuid.uuid4())
    assert given.get("MLX_MAX_OPS_PER_BUFFER") == given.get("MLX_MAX_MB_PER_BUFFER") == most
    assert given["AGX_RELAX_CDM_CTXSTORE_TIMEOUT"] == "1"  # only where the user chose it
    monkeypatch.setenv("MLX_MAX_OPS_PER_BUFFER", "3")
    supervisor._spawn(job, uuid.uuid4())
    assert given["MLX_MAX_OPS_PER_BUFFER"] == "3"


def test_an_abort_without_a_message_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    job = attempt_that(ABORT.format("Assertion failed"), monkeypatch)
    assert (job.status, job.out_of_memory) == (Status.QUEUED, False)
    assert "signal 6" in job.wait_reason


def test_a_kill_that_linux_counts_is_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([4, 5])
    monkeypatch.setattr(readings, "out_of_memory_kills", lambda: next(counts))
    job = attempt_that("import os; os.kill(os.getpid(), 9)", monkeypatch)
    assert job.out_of_memory


def test_an_error_that_mentions_memory_but_kills_nothing_is_a_crash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = attempt_that("raise SystemExit('std::bad_alloc')", monkeypatch)
    assert not job.out_of_memory
    assert "exited with status 1" in job.wait_reason


def test_a_child_records_itself_when_it_leads_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    make_job()
    job = claim()
    monkeypatch.setattr(os, "getpgrp", os.getpid)
    processes.announce(job.pk, job.lease)
    job.refresh_from_db()
    assert job.process_group == os.getpid()
    assert job.process_started == pytest.approx(processes.start_time(os.getpid()), abs=0.1)
    with pytest.raises(LeaseLost):
        processes.announce(job.pk, uuid.uuid4())


def test_a_mac_is_kept_awake_for_as_long_as_the_child_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    program = tmp_path / "caffeinate"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    supervisor.keep_awake(4711)
    (process,) = supervisor._awake
    assert process.wait(10) == 0
    assert (tmp_path / "asked").read_text() == "-is -w 4711\n"
    monkeypatch.setenv("PATH", "/nowhere")
    supervisor.keep_awake(4711)
    assert supervisor._awake == []


def test_an_attempt_keeps_it_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    monkeypatch.setattr(supervisor, "keep_awake", kept.append)
    attempt_that("pass", monkeypatch)
    assert len(kept) == 1


def test_a_graceful_stop_requeues_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    stopping = threading.Event()
    monkeypatch.setattr(supervisor, "_stopping", stopping)
    began = time.monotonic()
    stopping.set()
    job = attempt_that("import time; time.sleep(60)", monkeypatch)
    assert time.monotonic() - began < 20
    assert (job.status, job.crashes, job.out_of_memory) == (Status.QUEUED, 0, False)
