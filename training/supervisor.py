"""Runs due jobs one after another, each in a child process; lives in the worker's thread.

A child per job gives its memory back and may be killed by the system without harm: a Metal
out-of-memory is an abort that no `except` sees. The child writes its own outcome; what it could
not write (it was killed) is settled here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import structlog
from django.conf import settings

from registry import paths
from training import processes, queue
from training.models import LeaseLost, TrainingJob
from training.outage import ride_out

GENTLE_S = 4.5  # for a child that was told to stop; the worker itself has 6 s when `up` dies
_POLL_S = 0.1

log = structlog.get_logger(__name__)

_stopping = threading.Event()
_draining = threading.Lock()


def stop() -> None:
    """Begin to end: the running child is stopped gently and no further job is claimed."""
    _stopping.set()


def drain() -> int:
    """Run jobs until none is due; returns how many attempts ran. A second caller returns at once."""
    if not _draining.acquire(blocking=False):
        return 0
    try:
        attempts = 0
        while not _stopping.is_set() and (job := queue.claim()) is not None:
            run_attempt(job)
            attempts += 1
        return attempts
    finally:
        _draining.release()


def run_attempt(job: TrainingJob) -> None:
    """Run one attempt of a claimed job in a child process, and settle what it left open."""
    lease = job.lease
    assert lease is not None, "a claimed job has a lease"
    with structlog.contextvars.bound_contextvars(correlation_id=job.correlation_id, job=job.pk):
        child = _spawn(job, lease)
        log.info("job started", attempt=job.attempt, pid=child.pid)
        try:
            started = processes.start_time(child.pid)
            ride_out(
                lambda: job.write_held(lease, process_group=child.pid, process_started=started)
            )
        except LeaseLost:
            processes.kill_group(child.pid)
        _wait(child)
        log.info("job's process ended", exit_code=child.returncode)
        ride_out(lambda: _settle(job, lease, child.returncode))


def log_path(job: TrainingJob) -> Path:
    """Where the output of the job's processes goes, one attempt after another."""
    return paths.job_dir(job.pk) / "log.txt"


def _spawn(job: TrainingJob, lease: uuid.UUID) -> subprocess.Popen[bytes]:
    environment = {
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads starve the engine and the pages
        **os.environ,
        "HUB_CORRELATION_ID": job.correlation_id,
        "HUB_WORKER_PID": str(os.getpid()),
        "PYTHONUNBUFFERED": "1",
    }
    path = log_path(job)
    path.parent.mkdir(parents=True, exist_ok=True)
    manage = Path(settings.BASE_DIR) / "manage.py"
    with path.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, str(manage), "run_job", str(job.pk), "--lease", str(lease)],
            cwd=settings.BASE_DIR,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is for the worker alone
        )


def _wait(child: subprocess.Popen[bytes]) -> None:
    """Until the child ends; gently and then firmly once the worker itself has to."""
    while child.poll() is None and not _stopping.is_set():
        time.sleep(_POLL_S)
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(GENTLE_S)
        except subprocess.TimeoutExpired:
            processes.kill_group(child.pid)
            child.wait()


def _settle(job: TrainingJob, lease: uuid.UUID, exit_code: int) -> None:
    """Record the outcome of a child that ended without recording one itself."""
    try:
        if _stopping.is_set():
            queue.requeue(job, lease, "The worker was stopped; the job goes on when it is back.")
        else:
            queue.crashed(job, lease, _cause(exit_code))
    except LeaseLost:
        return  # the usual case: the child has recorded its outcome


def _cause(exit_code: int) -> str:
    if exit_code == -signal.SIGKILL:
        return (
            "The training process was killed (signal 9), which most often means that memory ran "
            "out; a smaller batch_size or max_seq_length needs less."
        )
    if exit_code == -signal.SIGABRT:
        return (
            "The training process aborted (signal 6), which most often means that the device ran "
            "out of memory; a smaller batch_size or max_seq_length needs less."
        )
    if exit_code == -signal.SIGALRM:
        return "The base model's chat template did not come to an end and was stopped."
    if exit_code < 0:
        return f"The training process was ended by signal {-exit_code}."
    return f"The training process ended with exit status {exit_code}; its log says why."
