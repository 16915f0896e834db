"""A job's child process as the operating system knows it: by pid and start time.

The child leads its own process group, so its pid is also the group's id. Pids are reused sooner or
later; together with the start time a pid identifies one process.
"""

from __future__ import annotations

import os
import signal
import time
import uuid

import psutil

from training.models import TrainingJob

_CLOCK_SLACK_S = 2.0  # psutil derives start times from the boot time, which a clock change moves


def busyness() -> float:
    """How many times longer than on an idle machine a process must be expected to take: runnable
    processes per core over the last minute, at least 1."""
    try:
        return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    except OSError:
        return 1.0


def start_time(pid: int) -> float | None:
    """Seconds since the epoch; None when there is no such process."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def announce(job_id: int, lease: uuid.UUID) -> None:
    """Record this process as the job's, if it leads its group: the worker that started it may have
    been killed before it could write the pid. Raises LeaseLost."""
    if os.getpgrp() == os.getpid():
        TrainingJob(pk=job_id).expect_start(lease, os.getpid(), start_time(os.getpid()))


def child_of(job: TrainingJob) -> psutil.Process | None:
    """The job's recorded child process; None when it is gone or was never recorded."""
    if job.process_group is None or job.process_started is None:
        return None
    try:
        process = psutil.Process(job.process_group)
        same = abs(process.create_time() - job.process_started) <= _CLOCK_SLACK_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def worked_s(job: TrainingJob) -> float:
    """Processor seconds that the job's child has used so far; 0 when it is gone."""
    process = child_of(job)
    try:
        used = process.cpu_times() if process else None
    except psutil.Error:
        return 0.0
    return used.user + used.system if used else 0.0


def kill_child(job: TrainingJob, timeout_s: float = 5.0) -> bool:
    """Kill the job's process group if it still runs. Returns whether it is gone afterwards."""
    process = child_of(job)
    if process is None:
        return True
    kill_group(process.pid)
    # Not psutil.wait_procs: it would steal the exit status from a parent that also waits for it.
    deadline = time.monotonic() + timeout_s
    while child_of(job) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def kill_group(pid: int) -> None:
    """Send SIGKILL to the group that `pid` leads; does nothing when it is already gone."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS: EPERM when only zombies are left
        return
