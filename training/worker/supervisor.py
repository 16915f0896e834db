"""Runs due jobs one after another, each in a child process; lives in the worker's thread.

A child per job gives its memory back and may be killed by the system without harm: a Metal
out-of-memory is an abort that no `except` sees. The child writes its own outcome; what it could
not write (it was killed) is settled here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import structlog
from django.conf import settings

from registry.storage import paths
from training import queue
from training.machine import processes, readings
from training.memory import admission
from training.models import LeaseLost, TrainingJob
from training.queue.outage import ride_out

GENTLE_S = 4.5  # for a child that was told to stop; the worker itself has 6 s when `up` dies
_POLL_S = 0.1
_LAST_WORDS = 4096  # bytes of a log in which a process that died may have said why

log = structlog.get_logger(__name__)

_stopping = threading.Event()
_draining = threading.Lock()
_awake: list[subprocess.Popen[bytes]] = []


def stop() -> None:
    """Begin to end: the running child is stopped gently and no further job is claimed."""
    _stopping.set()


def drain() -> int:
    """Run jobs until none is due; returns how many attempts ran. A second caller returns at once."""
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
    """Run one attempt of a claimed job in a child process, and settle what it left open."""
    lease = job.lease
    assert lease is not None, "a claimed job has a lease"
    with structlog.contextvars.bound_contextvars(correlation_id=job.correlation_id, job=job.pk):
        kills = readings.out_of_memory_kills()
        child = _spawn(job, lease)
        keep_awake(child.pid)
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
        exhausted = child.returncode < 0 and (
            readings.out_of_memory_kills() > kills or readings.tells_out_of_memory(_log_end(job))
        )
        ride_out(lambda: _settle(job, lease, child.returncode, exhausted))


def log_path(job: TrainingJob) -> Path:
    """Where the output of the job's processes goes, one attempt after another."""
    return paths.job_dir(job.pk) / "log.txt"


def keep_awake(pid: int) -> None:
    """Keep a Mac from sleeping while the process `pid` lives; elsewhere nothing happens."""
    for ended in [process for process in _awake if process.poll() is not None]:
        _awake.remove(ended)
    program = shutil.which("caffeinate")
    if program is not None:  # it ends by itself when that process does
        _awake.append(subprocess.Popen([program, "-is", "-w", str(pid)]))


def _log_end(job: TrainingJob) -> str:
    with contextlib.suppress(OSError), log_path(job).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_WORDS))
        return file.read().decode("utf-8", "replace")
    return ""


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


def _settle(job: TrainingJob, lease: uuid.UUID, exit_code: int, exhausted: bool) -> None:
    """Record the outcome of a child that ended without recording one itself."""
    try:
        if _stopping.is_set():
            queue.requeue(job, lease, "The worker was stopped; the job goes on when it is back.")
        else:
            queue.crashed(job, lease, _cause(exit_code, exhausted), out_of_memory=exhausted)
    except LeaseLost:
        return  # the usual case: the child has recorded its outcome


def _cause(exit_code: int, exhausted: bool) -> str:
    if exhausted:
        return "The training process ran out of memory and was ended by the system."
    if exit_code in (-signal.SIGKILL, -signal.SIGABRT):
        how = "was killed" if exit_code == -signal.SIGKILL else "aborted"
        return (
            f"The training process {how} (signal {-exit_code}), which most often means that memory "
            "ran out; a smaller batch_size or max_seq_length needs less."
        )
    if exit_code == -signal.SIGALRM:
        return "The base model's chat template did not come to an end and was stopped."
    if exit_code < 0:
        return f"The training process was ended by signal {-exit_code}."
    return f"The training process ended with exit status {exit_code}; its log says why."
