"""Runs due jobs one after another, each in a child process, in the worker's thread.

A child process gives its memory back when it exits, and the system may kill it without harm. The
child records its own outcome; if it was killed first, the outcome is recorded here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from functools import partial
from pathlib import Path

import structlog
from django.conf import settings
from django.utils import timezone

from backends.base import failures
from backends.mac.power import caffeinate
from registry import traces
from registry.storage import paths
from training import queue
from training.machine import processes, readings
from training.memory import admission
from training.models import LeaseLost, TrainingJob
from training.queue.outage import ride_out

STOP_S = 4.5  # for a child to exit after SIGTERM; the worker itself has 6 s when `up` dies
_POLL_S = 0.1
_SHORT_TURNS = {"MLX_MAX_OPS_PER_BUFFER": "16", "MLX_MAX_MB_PER_BUFFER": "16"}
"""Instead of 40 or 50 of each: the GPU draws the display between two command buffers, and macOS stops
one that holds it up for too long (mlx#3267). A training step's operations take far longer than to hand
over a buffer."""
_LOG_END_BYTES = 4096  # the end of a log, where a dead process may have written why

log = structlog.get_logger(__name__)

_stopping = threading.Event()
_draining = threading.Lock()
_awake: list[subprocess.Popen[bytes]] = []


def stop() -> None:
    """Start shutting down: the running child is asked to exit, and no further job is claimed."""
    _stopping.set()


def drain() -> int:
    """Run jobs until none is due; returns how many attempts ran. Returns 0 at once when another
    thread is already running jobs."""
    if not _draining.acquire(blocking=False):
        return 0
    try:
        attempts = 0
        while not _stopping.is_set() and (job := queue.claim(admission.admit)) is not None:
            run_attempt(job)
            attempts += 1
        return attempts
    finally:
        _draining.release()


def run_attempt(job: TrainingJob) -> None:
    """Run one attempt of a claimed job in a child process, and record the outcome if the child
    could not."""
    lease = job.lease
    assert lease is not None, "a claimed job has a lease"
    parent = job.traceparent or None
    with (
        structlog.contextvars.bound_contextvars(correlation_id=job.correlation_id, job=job.pk),
        traces.span(f"train {job.model.name}", parent=parent, kind="consumer") as span,
    ):
        _trace_wait(job)
        kills_before = readings.out_of_memory_kills()
        child = _spawn(job, lease)
        keep_awake(child.pid)
        log.info("job started", attempt=job.attempt, pid=child.pid)
        try:
            started = processes.start_time(child.pid)
            ride_out(lambda: job.expect_start(lease, child.pid, started))
        except LeaseLost:
            processes.kill_group(child.pid)
        _wait(child)
        log.info("job process exited", exit_code=child.returncode)
        _note(job, f"attempt {job.attempt} ended", exit_code=child.returncode)
        words = _log_end(job) if child.returncode < 0 else ""
        out_of_memory = child.returncode < 0 and (
            readings.out_of_memory_kills() > kills_before or failures.says_out_of_memory(words)
        )
        if _stopping.is_set():
            reason = "The worker was stopped; the job continues when it is back."
            outcome = partial(queue.requeue, job, lease, reason)
        elif failures.says_interrupted(words):  # it would be again
            outcome = partial(queue.fail, job, lease, failures.INTERRUPTED)
        else:
            reason = _exit_reason(child.returncode, out_of_memory)
            outcome = partial(queue.crashed, job, lease, reason, out_of_memory=out_of_memory)
        with contextlib.suppress(LeaseLost):  # the usual case: the child recorded its own outcome
            ride_out(outcome)
        _trace_end(job, span, child.returncode)


def _trace_wait(job: TrainingJob) -> None:
    """The time in the queue, before a job's first attempt."""
    if job.attempt == 1 and job.started_at is not None:
        began, ended = (int(at.timestamp() * 1e9) for at in (job.created_at, job.started_at))
        traces.past("queue", began, ended, {"hub.job": job.pk}, parent=job.traceparent or None)


def _trace_end(job: TrainingJob, span: traces.Traced, exit_code: int) -> None:
    if not span.traceparent:
        return
    job.refresh_from_db(fields=["status", "iteration", "error_message", "wait_reason"])
    span.set(
        {
            "hub.job": job.pk,
            "hub.attempt": job.attempt,
            "hub.status": job.status,
            "hub.iteration": job.iteration,
            "gen_ai.request.model": job.model.name,
            "process.exit.code": exit_code,
        }
    )
    if job.status == TrainingJob.Status.FAILED or exit_code:
        span.fail("job_failed", job.error_message or job.wait_reason)


def log_path(job: TrainingJob) -> Path:
    """The log file of the job's processes; each attempt appends to it."""
    return paths.job_dir(job.pk) / "log.txt"


def _note(job: TrainingJob, event: str, **fields: int) -> None:
    """A line in the job's log, which its attempts share: where one begins and ends."""
    moment = timezone.now().isoformat(timespec="milliseconds")
    line = json.dumps({"timestamp": moment, "level": "info", "event": event, **fields})
    with contextlib.suppress(OSError), log_path(job).open("a") as file:
        file.write(f"{line}\n")


def keep_awake(pid: int) -> None:
    """Keep a Mac awake while the process `pid` runs; does nothing elsewhere."""
    for ended in [process for process in _awake if process.poll() is not None]:
        _awake.remove(ended)
    if held := caffeinate("-is", "-w", str(pid)):  # it exits by itself when that process does
        _awake.append(held)


def _log_end(job: TrainingJob) -> str:
    with contextlib.suppress(OSError), log_path(job).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_END_BYTES))
        return file.read().decode("utf-8", "replace")
    return ""


def _spawn(job: TrainingJob, lease: uuid.UUID) -> subprocess.Popen[bytes]:
    environment = {
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads starve the engine and the pages
        **(_SHORT_TURNS if sys.platform == "darwin" else {}),
        **os.environ,
        "HUB_CORRELATION_ID": job.correlation_id,
        **traces.environment(),
        "HUB_WORKER_PID": str(os.getpid()),
        "PYTHONUNBUFFERED": "1",
    }
    path = log_path(job)
    path.parent.mkdir(parents=True, exist_ok=True)
    _note(job, f"attempt {job.attempt} begins")
    manage = Path(settings.BASE_DIR) / "manage.py"
    with path.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, str(manage), "run_job", str(job.pk), "--lease", str(lease)],
            cwd=settings.BASE_DIR,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal goes to the worker only
        )


def _wait(child: subprocess.Popen[bytes]) -> None:
    """Wait for the child to exit. When the worker stops: SIGTERM, then SIGKILL after STOP_S."""
    while child.poll() is None and not _stopping.is_set():
        time.sleep(_POLL_S)
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            processes.kill_group(child.pid)
            child.wait()


def _exit_reason(exit_code: int, out_of_memory: bool) -> str:
    if out_of_memory:
        return "The training process ran out of memory and was killed by the system."
    if exit_code in (-signal.SIGKILL, -signal.SIGABRT):
        how = "was killed" if exit_code == -signal.SIGKILL else "aborted"
        return (
            f"The training process {how} (signal {-exit_code}), most likely because memory ran "
            "out; try a smaller batch size or a smaller limit for the longest example."
        )
    if exit_code == -signal.SIGALRM:
        return "The base model's chat template did not finish and was stopped."
    if exit_code < 0:
        return f"The training process was killed by signal {-exit_code}."
    return f"The training process exited with status {exit_code}; see its log."
