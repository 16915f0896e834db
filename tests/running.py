"""A real hub for tests: `manage.py up` with the fake backend, its own storage and a free port."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psutil
import psycopg
import pytest

from benchmarks.setup.hub import nothing_sent_to_mlflow

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = ("web", "engine", "background")  # of `up`
THOROUGH = os.environ.get("HUB_TESTS") == "thorough"  # as `just full` asks


def often(few: int, many: int) -> int:
    """How many times something random is tried: `few` in every run, `many` in a thorough one."""
    return many if THOROUGH else few


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def without_coverage(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` for a process that is not measured: what it runs is measured elsewhere."""
    return {k: v for k, v in environment.items() if not k.startswith("COVERAGE_PROCESS_")}


def leave_unmeasured(patch: pytest.MonkeyPatch) -> None:
    """Likewise all that this process starts from now on: coverage makes each start of Python 0.2 s
    longer."""
    for name in set(os.environ) - set(without_coverage(os.environ)):
        patch.delenv(name)


def hub_environment(storage: Path, **extra: str) -> dict[str, str]:
    """What a hub's process needs to live on `storage` alone, whatever the tester has set."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HUB_", "OTEL_", "MLFLOW_")) and name != "DJANGO_SETTINGS_MODULE"
    }
    return {
        **kept,
        "HUB_STORAGE": str(storage),
        "HUB_BACKEND": "fake",
        "HUB_ENV_FILE": os.devnull,
        "HUB_SAMPLE_EVERY_S": "0.5",
        "PYTHONUNBUFFERED": "1",
        **extra,
    }


@dataclass
class RunningHub:
    """One `up` and what a test asks of it. `log` is the file that it writes to."""

    process: subprocess.Popen[bytes]
    storage: Path
    port: int
    log: Path
    environment: Mapping[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def pid(self, name: str) -> int | None:
        """The pid of "web", "engine", …; None while it does not run."""
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if f"run_{name}" in child.cmdline():
                    return child.pid
        return None

    def pids(self) -> list[int]:
        """Every process that `up` started, grandchildren too."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [child.pid for child in family]

    def health(self) -> dict[str, object]:
        return httpx.get(f"{self.url}/health", timeout=10).json()  # type: ignore[no-any-return]

    def wait_ready(self, timeout_s: float = 300) -> None:
        """Until `/health` says ready; fails with the log's end when it does not."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return
            time.sleep(0.2)
        raise AssertionError(f"The hub is not ready. Its log ends:\n{self.log.read_text()[-4000:]}")

    def manage(self, *arguments: str, timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
        """Run a management command on this hub's storage."""
        return manage(*arguments, environment=self.environment, timeout_s=timeout_s)

    def stop(self, timeout_s: float = 15) -> float:
        """Ask `up` to end and wait for it; the seconds that took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout_s)
        return time.monotonic() - began


def manage(
    *arguments: str, environment: Mapping[str, str], timeout_s: float = 90
) -> subprocess.CompletedProcess[str]:
    """Run `manage.py` in an environment made by `hub_environment`."""
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), *arguments],
        cwd=ROOT,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


TABLES = "hub_tables"
"""On the suite's PostgreSQL server, a database with a hub's tables and no row."""


def create_database(
    connection: psycopg.Connection[Any], name: str, with_tables: bool = True
) -> None:
    """A new database, with a hub's tables where the server has `TABLES` to copy."""
    asked = "SELECT 1 FROM pg_database WHERE datname = %s"
    copied = with_tables and connection.execute(asked, [TABLES]).fetchone()
    connection.execute(f'CREATE DATABASE "{name}"' + (f" TEMPLATE {TABLES}" if copied else ""))


def other_database(server: str, name: str) -> str:
    """The URL of a database beside the one that `server` names."""
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


@contextlib.contextmanager
def own_database(with_tables: bool = True) -> Iterator[dict[str, str]]:
    """A new database on the server that DATABASE_URL names, as environment variables for a hub.
    Nothing when the tests run on SQLite: the hub's own file is in its storage."""
    server = os.environ.get("DATABASE_URL", "")
    if not server.startswith("postgres"):
        yield {"DATABASE_URL": ""}
        return
    name = f"hub_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        create_database(connection, name, with_tables)
        try:
            yield {"DATABASE_URL": other_database(server, name)}
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def put_hub_store(path: Path) -> None:
    """Put a hub's own database without a row at `path`. A new hub makes it by all migrations, which
    takes as long as the rest of its start, so it is done once, and kept for the next tests."""
    state = hashlib.sha256(metadata.version("django").encode())
    for migration in sorted(ROOT.glob("*/migrations/*.py")):
        state.update(migration.read_bytes())
    shutil.copyfile(_kept(f"hub-{state.hexdigest()[:16]}.sqlite3", _make_hub_store), path)


def _make_hub_store(path: Path) -> None:
    environment = hub_environment(path.parent, DATABASE_URL=f"sqlite:///{path}")
    made = manage("migrate", "--skip-checks", environment=without_coverage(environment))
    assert made.returncode == 0, made.stderr
    with contextlib.closing(sqlite3.connect(path)) as store:
        store.execute("PRAGMA journal_mode = DELETE")  # one file, as a new one is until it is used


def put_mlflow_store(path: Path) -> None:
    """Put MLflow's embedded store without a run at `path`. Making its tables takes MLflow longer
    than a hub takes to start, so it is done once, and kept for the next tests."""
    made = _kept(f"mlflow-{metadata.version('mlflow')}.sqlite3", _make_mlflow_store)
    shutil.copyfile(made, path)
    with contextlib.closing(sqlite3.connect(path)) as store, store:
        artifacts = str(path.parent / "mlflow-artifacts" / "0")
        store.execute("UPDATE experiments SET artifact_location = ?", [artifacts])


making_for_all = False
"""Whether this process is making what the first of all tests that need it makes: it may be a quick one."""


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """The file of that name that the first of all test processes has made."""
    global making_for_all
    kept = ROOT / ".pytest_cache" / name
    kept.parent.mkdir(exist_ok=True)
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
                new = Path(folder) / "new.sqlite3"
                making_for_all = True
                try:
                    make(new)
                finally:
                    making_for_all = False
                new.rename(kept)
    return kept


def _make_mlflow_store(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "registry.mlflow.child"],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        request = {"uri": f"sqlite:///{path}", "operation": "ping", "arguments": {}}
        child.stdin.write(json.dumps(request) + "\n")
        child.stdin.flush()
        ready, answer = (json.loads(child.stdout.readline()) for _ in range(2))
        assert "error" not in ready | answer
        child.stdin.close()


@contextlib.contextmanager
def run_hub(
    folder: Path,
    measured: bool = False,
    with_tables: bool = True,
    port: int | None = None,
    with_mlflow: bool = False,
    **extra: str,
) -> Iterator[RunningHub]:
    """A ready hub below `folder`; `extra` are environment variables. Ends it at the end.

    Coverage makes a process start a third slower, so it is `measured` only on demand. A hub that
    is not given its tables makes them. MLflow is sent nothing but on demand: its process takes as
    long to start as a hub's three together.
    """
    log = folder / "up.log"
    port = port or free_port()
    with (
        contextlib.ExitStack() as held,
        own_database(with_tables) as database,
        log.open("wb") as file,
    ):
        environment = hub_environment(folder / "storage", **{**database, **extra})
        if not measured:
            environment = without_coverage(environment)
        (folder / "storage").mkdir(mode=0o700, exist_ok=True)
        put_mlflow_store(folder / "storage" / "mlflow.sqlite3")
        if not with_mlflow:
            held.enter_context(nothing_sent_to_mlflow(folder / "storage"))
        if with_tables and not database["DATABASE_URL"]:
            put_hub_store(folder / "storage" / "hub.sqlite3")
        hub = RunningHub(
            _start(port, environment, file), folder / "storage", port, log, environment
        )
        try:
            hub.wait_ready()
            yield hub
        finally:
            left = hub.pids() if hub.process.poll() is None else []
            try:
                hub.stop()
            except subprocess.TimeoutExpired:
                hub.process.kill()
                hub.process.wait()
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def _start(port: int, environment: Mapping[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), "up", "--port", str(port)],
        cwd=ROOT,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )


def wait_until(condition: object, timeout_s: float = 30, every_s: float = 0.1) -> None:
    """Until the callable `condition` is true; fails when it does not become so in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return
        time.sleep(every_s)
    raise AssertionError(f"{condition} did not become true within {timeout_s} s.")


@pytest.fixture(scope="session")
def running_hub(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[RunningHub]:
    """One real hub on `database` that all tests share: make names of your own, and end none of
    its processes."""
    folder, port = tmp_path_factory.mktemp("hub"), str(free_port())
    # It waits for minutes: a look at the machine each half second takes most of what that costs.
    beat = "2"
    with run_hub(folder, measured=True, HUB_OLLAMA_PORT=port, HUB_SAMPLE_EVERY_S=beat) as hub:
        yield hub
