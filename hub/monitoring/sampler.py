"""Samples the machine, recovers dead jobs, updates MLflow and starts backups, every few seconds.

Each task can fail on its own: an unavailable database or a stalled MLflow must not keep the other
tasks from running. The connection to the database stays open between them.
"""

from __future__ import annotations

import contextlib
import datetime
import plistlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
import structlog
from django.db import close_old_connections, connection
from django.utils import timezone

from backends.mac.memory import footprint
from hub.backups.schedule import Schedule
from hub.config import config
from hub.models import SystemSample
from hub.monitoring import samples, updates
from hub.monitoring.health import running_engine_stats
from hub.monitoring.samples import Samples
from hub.preferences import changing
from inference.models import InferenceRequest, ReplayAnswer
from registry import audit, traces
from registry.background import work
from registry.maintenance import archive
from registry.mlflow import outbox
from registry.storage import paths
from training.models import TrainingJob
from training.worker import reaper

log = structlog.get_logger(__name__)

CLEAN_EVERY_S = 3600.0
REPEAT_LOG_S = 60.0  # a task that fails every few seconds is logged once a minute


@dataclass
class Sampler:
    """Runs the tasks until `stop` is set."""

    stop: threading.Event = field(default_factory=threading.Event)
    _samples: Samples = field(default_factory=Samples, repr=False)
    _cleaned_at: float = field(default=float("-inf"), repr=False)
    _logged_at: dict[str, float] = field(default_factory=dict, repr=False)
    _backups: Schedule = field(default_factory=Schedule, repr=False)
    _flushing: threading.Thread | None = field(default=None, repr=False)

    def run(self) -> None:
        """Run until `stop` is set; a task that fails is logged and retried."""
        psutil.cpu_percent()  # the first call has nothing to compare with
        while not self.stop.wait(config.sample_every_s):
            self.beat()
        self._run("write samples", self._samples.write)
        if self._flushing:
            self._flushing.join(2)

    def beat(self) -> None:
        """Run every task that is due, once."""
        self._run("read settings", changing.refresh)
        self._run("sample", lambda: self._samples.add(take_sample()))
        self._run("reap", reaper.reap)
        self._run("back up", self._backups.tick)
        self._run("look for an update", updates.look)
        if time.monotonic() - self._cleaned_at >= CLEAN_EVERY_S:
            self._run("clean", clean)
            self._run("finish moves", archive.finish_moves)
            self._cleaned_at = time.monotonic()
        self._run("update MLflow", self._start_flush)

    def _start_flush(self) -> None:
        # In its own thread, because a stalled server must not stop sampling and reaping.
        idle = self._flushing is None or not self._flushing.is_alive()
        if idle and outbox.waiting().exists():
            self._flushing = threading.Thread(target=self._flush, name="mlflow", daemon=True)
            self._flushing.start()

    def _flush(self) -> None:
        try:
            self._run("update MLflow", _flush)
        finally:
            connection.close()

    def _run(self, task: str, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception:
            close_old_connections()
            now = time.monotonic()
            if now - self._logged_at.get(task, float("-inf")) >= REPEAT_LOG_S:
                self._logged_at[task] = now
                log.exception("task failed, will retry", task=task)


def _flush() -> None:
    began = time.time_ns()
    if sent := outbox.flush():
        traces.past("update MLflow", began, time.time_ns(), {"hub.updates": sent})


def take_sample() -> SystemSample:
    """Measure the machine; the row is not in the database yet. The CPU usage is the mean since the last
    call."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    stats = running_engine_stats()
    return SystemSample(
        cpu_percent=psutil.cpu_percent(),
        gpu_percent=gpu_percent(),
        memory_used_bytes=memory.total - memory.available,
        memory_total_bytes=memory.total,
        swap_used_bytes=swap.used,
        disk_free_bytes=shutil.disk_usage(paths.root()).free,
        engine_memory_bytes=stats["models_bytes"] if stats else None,
        training_memory_bytes=training_memory_bytes(),
    )


def clean() -> int:
    """Thin out old samples, and delete what is past its retention: samples, sent MLflow updates,
    finished tasks, rows and texts of the request log, texts of replays, the audit log. Returns how many
    rows were deleted."""
    thinned = samples.thin()
    gone, _ = SystemSample.objects.filter(
        created_at__lt=_days_ago(config.sample_retention_days)
    ).delete()
    texts = _days_ago(config.log_prompts_retention_days)
    requests = InferenceRequest.objects.expire(_days_ago(config.log_retention_days), texts)
    replayed, _ = ReplayAnswer.objects.filter(created_at__lt=texts).delete()
    tasks = work.prune(_days_ago(config.task_retention_days))
    audited = audit.prune(_days_ago(config.audit_days))
    return thinned + gone + outbox.prune() + tasks + requests + replayed + audited


def _days_ago(days: int) -> datetime.datetime:
    return timezone.now() - datetime.timedelta(days=days)


def training_memory_bytes() -> int | None:
    """Memory of the running job's process and its children; None while no job runs."""
    job = TrainingJob.objects.filter(status=TrainingJob.Status.RUNNING).first()
    if job is None or job.process_group is None:
        return None
    with contextlib.suppress(psutil.Error):
        child = psutil.Process(job.process_group)
        family = [child, *child.children(recursive=True)]
        return sum(footprint(process.pid) for process in family)
    return None


def gpu_percent() -> float | None:
    """How busy the GPU is, read without root; None when that is unknown."""
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        return _apple_gpu() if sys.platform == "darwin" else _nvidia_gpu()
    return None


def _apple_gpu() -> float | None:
    answer = subprocess.run(
        ["ioreg", "-r", "-d", "1", "-c", "IOAccelerator", "-a"],
        capture_output=True,
        timeout=2,
        check=True,
    )
    return apple_gpu_percent(answer.stdout)


def apple_gpu_percent(plist: bytes) -> float | None:
    """The busiest accelerator in the property list that `ioreg -a` prints."""
    busy = [
        accelerator.get("PerformanceStatistics", {}).get("Device Utilization %")
        for accelerator in (plistlib.loads(plist) if plist.strip() else [])
    ]
    return max((float(value) for value in busy if value is not None), default=None)


def _nvidia_gpu() -> float | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    answer = subprocess.run(
        [program, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"],
        capture_output=True,
        timeout=2,
        check=True,
        text=True,
    )
    return max((float(line) for line in answer.stdout.split()), default=None)
