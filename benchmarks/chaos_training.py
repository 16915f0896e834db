"""`kill -9` at random moments of the training worker and its children, with a history checker.

    uv run python -m benchmarks.chaos_training [--kills 200] [--busy 0] [--seed 0] [--check]

`--busy N` keeps N processes computing beside it, so that everything starts late: no job may be taken
for dead then.

A worker, a sampler and the fake backend as real processes on a storage folder of their own. A
trigger in the database writes down every change of a job's status or lease, and from that history
it is checked that every job ended completed or failed with a reason, that none completed twice or
moved after its end, that at most one lease was live at any time, that the lease of a killed process
was taken back within 45 s, and that every completed job has the same bytes: all of them train the
same.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.setup.hub import (
    ROOT,
    add_arguments,
    finish,
    machine,
    nothing_sent_to_mlflow,
    own_storage,
)

BAR_S = 45.0
ITERS, SAVE_EVERY, STEP_S = 30, 2, 0.05
RESTART_S = 0.5  # as `manage.py up` does
LOOK_S = 0.05  # between two looks at the database
END_S = 600.0  # for what is left to end, once killing is over
TARGETS = (("child", 0.55), ("worker", 0.25), ("both", 0.12), ("both, without a restart", 0.08))

_COMPUTE = "import time; end = time.monotonic() + 3600\nwhile time.monotonic() < end: pass"

_HISTORY = """
CREATE TABLE chaos_history (
    id INTEGER PRIMARY KEY, job INTEGER, before TEXT, after TEXT, lease TEXT, at REAL
);
CREATE TRIGGER chaos AFTER UPDATE ON training_trainingjob
WHEN OLD.status <> NEW.status OR OLD.lease IS NOT NEW.lease
BEGIN
    INSERT INTO chaos_history (job, before, after, lease, at)
    VALUES (NEW.id, OLD.status, NEW.status, NEW.lease, julianday('now'));
END;
"""


@dataclass(frozen=True)
class Change:
    """One change of a job's status or lease."""

    job: int
    before: str
    after: str
    lease: str | None


@dataclass
class Outcome:
    """The final state of a job. `adapter` is the sha256 of a completed job's weights."""

    job: int
    status: str
    error: str = ""
    adapter: str = ""


@dataclass
class Chaos:
    """Starts the processes, kills them, starts them again."""

    environment: dict[str, str]
    log: Path
    rng: random.Random
    waiting: int
    worker: subprocess.Popen[bytes] | None = None
    sampler: subprocess.Popen[bytes] | None = None
    kills: Counter[str] = field(default_factory=Counter)
    orphaned_s: list[float] = field(default_factory=list)

    def start(self, command: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, str(ROOT / "manage.py"), command],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )

    def run(self, kills: int, limit_s: float) -> None:
        """Kill until there are enough kills, or time is up."""
        self.worker, self.sampler = self.start("run_worker"), self.start("run_sampler")
        deadline = time.monotonic() + limit_s
        while self.kills.total() < kills and time.monotonic() < deadline:
            fill_queue(self.waiting)
            self._wait_for_a_moment()
            target = self.rng.choices([t for t, _ in TARGETS], [w for _, w in TARGETS])[0]
            if self._kill(target) and self.kills.total() % 10 == 0:
                print(f"{self.kills.total()} kills, {alive_jobs()} jobs alive", flush=True)

    def _wait_for_a_moment(self) -> None:
        """Wait for the next moment to kill: usually in the middle of training, or anywhere between a
        job's start and end; sometimes any moment, also while the worker starts."""
        kind = self.rng.random()
        reached = is_training if kind < 0.4 else lambda: held_lease() is not None
        deadline = time.monotonic() + 30
        while kind < 0.85 and time.monotonic() < deadline and not reached():
            time.sleep(LOOK_S)
        time.sleep(self.rng.uniform(0, 1.5 * ITERS * STEP_S))

    def _kill(self, target: str) -> bool:
        """Kill the worker, its children or all of them; False when there is no child just now."""
        assert self.worker is not None
        held = held_lease()
        children = [child.pid for child in family(self.worker.pid)]
        if target != "worker" and not children:
            return False
        victims = {"child": children, "worker": [self.worker.pid]}.get(
            target, self.rng.sample([self.worker.pid, *children], len(children) + 1)
        )
        began = time.monotonic()
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.kills[target] += 1
        if self.worker.pid in victims:
            self.worker.wait()
            if target.endswith("restarts"):
                wait_until_given_back(held)
            else:
                time.sleep(RESTART_S)
            self.worker = self.start("run_worker")
        if held is not None:
            wait_until_given_back(held)
            # What may take so long on an idle machine may take as many times longer as it is busier.
            self.orphaned_s.append((time.monotonic() - began) / busyness())
        return True

    def finish(self) -> None:
        """Wait until every job is over, then end the processes."""
        deadline = time.monotonic() + END_S
        while alive_jobs() and time.monotonic() < deadline:
            time.sleep(0.2)

    def stop(self) -> None:
        for process in (self.worker, self.sampler):
            if process is None:
                continue
            left = family(process.pid)
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for child in left:
                with contextlib.suppress(psutil.Error):
                    child.kill()


def busyness() -> float:
    from training.machine import processes  # reads the settings, so not before

    return processes.busyness()


def family(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.Error:
        return []


# ------------------------------------------------------------------ what the database says


def fill_queue(waiting: int) -> None:
    from backends.base import TrainingConfig
    from registry.models import Dataset, Model
    from training import queue

    config = TrainingConfig(
        iters=ITERS, save_every=SAVE_EVERY, steps_per_eval=10, batch_size=2, seed=7
    )
    for _ in range(waiting - alive_jobs()):
        queue.enqueue(Model.objects.get(), Dataset.objects.get(), config)


def alive_jobs() -> int:
    from training.models import TrainingJob

    return TrainingJob.objects.filter(status__in=["queued", "running"]).count()


def held_lease() -> tuple[int, Any] | None:
    """Job and lease of the running job."""
    from training.models import TrainingJob

    return TrainingJob.objects.running().values_list("pk", "lease").first()


def is_training() -> bool:
    from training.models import TrainingJob

    return TrainingJob.objects.running().filter(stage__in=["training", "evaluating"]).exists()


def wait_until_given_back(held: tuple[int, Any] | None, limit_s: float = 2 * BAR_S) -> None:
    """Wait until that lease is no longer live."""
    from training.models import TrainingJob

    deadline = time.monotonic() + limit_s * busyness()
    while held is not None and TrainingJob.objects.held(*held).exists():
        if time.monotonic() > deadline:
            return
        time.sleep(LOOK_S)


def prepare(storage: Path) -> None:
    """A base model, a data set and a model, and the history's trigger."""
    from django.db import connection

    from registry.bases import registration
    from registry.datasets import snapshots
    from registry.models import BaseModel, Model

    weights = storage / "tiny.gguf"
    weights.write_bytes(b"GGUF tiny")
    base = registration.register_base("tiny", BaseModel.Source.GGUF, str(weights))
    source = storage / "source"
    source.mkdir()
    for split, count in (("train", 12), ("valid", 4), ("test", 4)):
        rows = [{"prompt": f"{split} {n}", "completion": f"answer {n}"} for n in range(count)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (source / f"{split}.jsonl").write_text(text)
    snapshots.register_dataset("notes", source)
    Model.objects.create(name="helper", base_model=base)
    connection.ensure_connection()
    connection.connection.executescript(_HISTORY)


def history() -> list[Change]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT job, before, after, lease FROM chaos_history ORDER BY id")
        return [Change(*row) for row in cursor.fetchall()]


def outcomes() -> list[Outcome]:
    from registry.storage import artifacts, paths
    from training.models import TrainingJob

    found = []
    for job in TrainingJob.objects.select_related("result_version").order_by("pk"):
        adapter = ""
        if job.status == "completed" and job.result_version is not None:
            folder = paths.absolute(job.result_version.artifact_path)
            damage = artifacts.verify(folder)
            adapter = (
                " ".join(damage) if damage else artifacts.sha256(folder / "adapters.safetensors")
            )
        found.append(Outcome(job.pk, job.status, job.error_message, adapter))
    return found


# ------------------------------------------------------------------ the checker


def problems(changes: list[Change], jobs: list[Outcome], orphaned_s: list[float]) -> list[str]:
    """The promises that the history and the outcomes break; empty when all are kept."""
    return [
        *_endings(jobs),
        *_moves(changes),
        *_leases(changes),
        *(
            f"A lease of a killed process stayed live for {seconds:.0f} s."
            for seconds in orphaned_s
            if seconds > BAR_S
        ),
    ]


def _endings(jobs: list[Outcome]) -> Iterator[str]:
    for job in jobs:
        if job.status not in ("completed", "failed"):
            yield f"Job {job.job} ended {job.status}."
        if job.status == "failed" and not job.error:
            yield f"Job {job.job} failed without a reason."
        if "in time" in job.error or "stopped responding" in job.error:
            yield f"Job {job.job} was healthy and failed: {job.error}"
        if job.status == "completed" and not job.adapter:
            yield f"Job {job.job} completed without an adapter."
    if len({job.adapter for job in jobs if job.status == "completed"}) > 1:
        yield "Completed jobs have different adapters, though they train the same."


def _moves(changes: list[Change]) -> Iterator[str]:
    now: dict[int, str] = {}
    completed = Counter(change.job for change in changes if change.after == "completed")
    for job, times in completed.items():
        if times > 1:
            yield f"Job {job} completed {times} times."
    for change in changes:
        if now.get(change.job, "queued") != change.before:
            yield f"Job {change.job} left {change.before} while it was {now[change.job]}."
        if change.before in ("completed", "failed"):
            yield f"Job {change.job} left its end {change.before} for {change.after}."
        now[change.job] = change.after


def _leases(changes: list[Change]) -> Iterator[str]:
    live: dict[int, str] = {}
    given: set[str] = set()
    for change in changes:
        live.pop(change.job, None)
        if change.after != "running":
            continue
        if change.lease is None:
            yield f"Job {change.job} ran without a lease."
            continue
        if change.lease in given:
            yield f"Job {change.job} got a lease that was given before."
        given.add(change.lease)
        live[change.job] = change.lease
        if len(live) > 1:
            yield f"Jobs {sorted(live)} had live leases at once."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--waiting", type=int, default=4, help="jobs alive while it kills")
    parser.add_argument("--busy", type=int, default=0, help="processes that compute beside it")
    parser.add_argument("--limit-s", type=float, default=3600, help="stop killing after this time")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    began = time.monotonic()
    with (
        own_storage("fake", HUB_FAKE_STEP_SECONDS=str(STEP_S)) as storage,
        nothing_sent_to_mlflow(storage),
    ):
        prepare(storage)
        others = [subprocess.Popen([sys.executable, "-c", _COMPUTE]) for _ in range(options.busy)]
        log, rng = storage / "processes.log", random.Random(options.seed)
        chaos = Chaos(dict(os.environ), log, rng, options.waiting)
        try:
            chaos.run(options.kills, options.limit_s)
            chaos.finish()
        finally:
            chaos.stop()
            for other in others:
                other.kill()
                other.wait()
        changes, jobs = history(), outcomes()
    broken = problems(changes, jobs, chaos.orphaned_s)
    figures = {
        "machine": machine(),
        "kills": dict(chaos.kills),
        "busy": options.busy,
        "jobs": dict(Counter(job.status for job in jobs)),
        "attempts": sum(change.after == "running" for change in changes),
        "longest_orphan_s": round(max(chaos.orphaned_s, default=0.0), 1),
        "median_orphan_s": round(_median(chaos.orphaned_s), 1),
        "changes_checked": len(changes),
        "seconds": round(time.monotonic() - began),
        "problems": broken,
    }
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    finish(not broken, options.check, f"{chaos.kills.total()} kills, {len(broken)} promises broken")


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0


if __name__ == "__main__":
    main()
