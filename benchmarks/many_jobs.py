"""Whether the memory of the hub's processes stays flat over many jobs, one after the other.

    uv run python -m benchmarks.many_jobs [--jobs 100] [--check] [--json FILE]

A real hub with the fake backend; after each job the private memory of web, engine, worker and
sampler is read, and a line is fitted to what comes after the first tenth. The bar is a growth of
less than 5 % of the process's memory, or 5 MB, over all jobs. Pages are requested
meanwhile, as in a browser that watches.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from typing import TYPE_CHECKING, Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.setup.hub import add_arguments, finish, machine, supervised_hub

if TYPE_CHECKING:
    from hub.processes.supervisor import Supervisor

SHARE, LEAST_BYTES = 0.05, 5 * 2**20
JOB_LIMIT_S = 300.0


def memory_bytes(hub: Supervisor) -> dict[str, int]:
    """Private memory of each process, without shared pages."""
    found = {}
    for child in hub.children:
        with contextlib.suppress(psutil.Error):
            if child.process is not None:
                found[child.name] = int(psutil.Process(child.process.pid).memory_full_info().uss)
    return found


def growth(values: list[int]) -> float:
    """Growth of a fitted line over all measured jobs, in bytes."""
    warm = values[len(values) // 10 :]
    slope, _ = statistics.linear_regression(range(len(warm)), warm)
    return slope * len(values)


def is_flat(values: list[int]) -> bool:
    return growth(values) < max(LEAST_BYTES, SHARE * statistics.median(values))


def register(client: httpx.Client) -> dict[str, Any]:
    """A tiny base, a data set and a model; the body that queues a job."""
    from registry.bases import registration
    from registry.datasets import snapshots
    from registry.models import BaseModel
    from registry.storage import paths

    weights = paths.root() / "tiny.gguf"
    weights.write_bytes(b"GGUF tiny")
    base = registration.register_base("tiny", BaseModel.Source.GGUF, str(weights))
    source = paths.root() / "source"
    source.mkdir()
    for split in ("train", "valid"):
        rows = [{"prompt": f"{split} {n}", "completion": f"answer {n}"} for n in range(12)]
        (source / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = snapshots.register_dataset("notes", source)
    body = {"name": "helper", "base_model": base.name}
    model = client.post("/api/models", json=body).raise_for_status().json()
    config = {"iters": 20, "steps_per_eval": 10, "save_every": 10}
    return {"model_id": model["id"], "dataset_id": dataset.pk, "config": config}


def run_job(client: httpx.Client, body: dict[str, Any]) -> None:
    """Queue a job and watch it to its end. Ends the benchmark when it does not complete."""
    job = client.post("/api/training/jobs", json=body).raise_for_status().json()
    deadline = time.monotonic() + JOB_LIMIT_S
    while job["status"] in ("queued", "running"):
        if time.monotonic() > deadline:
            raise SystemExit(f"Job {job['id']} did not end in {JOB_LIMIT_S:.0f} s.")
        time.sleep(0.2)
        job = client.get(f"/api/training/jobs/{job['id']}").raise_for_status().json()
    if job["status"] != "completed":
        raise SystemExit(f"Job {job['id']} is {job['status']}: {job['error_message']}")
    client.get(f"/training/{job['id']}/").raise_for_status()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--limit-s", type=float, default=3600, help="start no job after this time")
    options = parser.parse_args()
    measured: dict[str, list[int]] = {}
    with (
        supervised_hub("fake") as hub,
        httpx.Client(base_url=hub.url, timeout=60) as client,
    ):
        body = register(client)
        deadline = time.monotonic() + options.limit_s
        number = 0
        while number < options.jobs and time.monotonic() < deadline:
            run_job(client, body)
            number += 1
            for name, value in memory_bytes(hub).items():
                measured.setdefault(name, []).append(value)
            if number % 10 == 0:
                print(f"{number} of {options.jobs} jobs", flush=True)
        restarts = {child.name: child.restarts for child in hub.children}
    report(measured, number)
    flat = all(map(is_flat, measured.values())) and not any(restarts.values())
    if options.json:
        figures = {"machine": machine(), "uss_bytes": measured, "restarts": restarts}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    finish(flat, options.check, f"memory flat over {number} jobs, no process restarted")


def report(measured: dict[str, list[int]], jobs: int) -> None:
    table = Table(title=f"Private memory over {jobs} jobs, MB ({machine()})")
    for heading in ("process", "after the first", "median", "after the last", "fitted growth"):
        table.add_column(heading, justify="left" if heading == "process" else "right")
    for name, values in measured.items():
        figures = (values[0], statistics.median(values), values[-1], growth(values))
        table.add_row(name, *(f"{figure / 2**20:.1f}" for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
