"""The services of `docker-compose.yml`, started from packages with what that file says of each: its
command, its environment, its health check and the files it mounts. Where it names a port or a volume, the
process gets a port and a folder of the test's own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml

from tests.postgresql_serving import Server, own_server
from tests.running import ROOT, THOROUGH, free_port, put_mlflow_store, wait_until

COMPOSE = ROOT / "docker-compose.yml"
IN_ONE_PROCESS = """
import os, sys, mlflow.cli, mlflow.server, uvicorn.main

def serve_here(command, *, extra_env, **_):
    os.environ.update(extra_env)
    uvicorn.main.main(command[3:])

mlflow.server._exec_cmd = serve_here
mlflow.cli.cli(sys.argv[1:])
"""
"""MLflow's command line, which serves by itself what it would start a second process for, whose import
takes seconds again."""
EVERY = "500ms"  # between two scrapes, in place of the file's seconds


def services(**environment: str) -> dict[str, Any]:
    """The file's services, with `environment` in place of its `${NAME:?…}`."""
    text = COMPOSE.read_text()
    for name, value in environment.items():
        text = re.sub(rf"\$\{{{name}:\?[^}}]*\}}", value, text)
    return yaml.safe_load(text)["services"]  # type: ignore[no-any-return]


@dataclass
class Service:
    """A service's process; the same one after each start."""

    command: list[str]
    folder: Path
    health_url: str
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._is_healthy, timeout_s=300)  # imports are slow beside other work

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stall(self) -> None:
        """No process of it gets any time until `go_on`."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGCONT)

    @property
    def address(self) -> str:
        return "http://{0.hostname}:{0.port}".format(urlsplit(self.health_url))

    def _is_healthy(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError((self.folder / "log").read_text()[-4000:])
        try:
            return httpx.get(self.health_url, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


@contextlib.contextmanager
def postgres(tables_of: str, password: str) -> Iterator[Server]:
    """With the user, database and password that the file's variables say, and the tables of the database at
    that URL."""
    said = services(POSTGRES_PASSWORD=password)["postgres"]
    variables = said["environment"]
    with own_server(
        tables_of, variables["POSTGRES_USER"], variables["POSTGRES_PASSWORD"]
    ) as server:
        check = said["healthcheck"]["test"][1]
        assert check == f"pg_isready --username {server.user} --dbname {variables['POSTGRES_DB']}"
        yield server


@contextlib.contextmanager
def mlflow(folder: Path) -> Iterator[Service]:
    """An empty store, with MLflow's tables."""
    put_mlflow_store(folder / "mlflow.sqlite3")
    changes = {"0.0.0.0": "127.0.0.1", "5000": str(free_port()), "/mlflow/": f"{folder}/"}
    made = _service("mlflow", folder, changes)
    start = ("-m", "mlflow") if THOROUGH else ("-c", IN_ONE_PROCESS)
    made.command = [sys.executable, *start, *made.command[1:]]
    # As many workers as a machine for one person needs; none of them runs jobs of MLflow's own.
    made.environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_WORKERS": "1",
    }
    yield from _running(made)


@contextlib.contextmanager
def prometheus(folder: Path, hub_port: int) -> Iterator[Service]:
    """With the mounted files, but for how often it looks. It asks for the file's own target, and is led to
    the hub at that port as a container is by the name `host.docker.internal`."""
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": EVERY, "evaluation_interval": EVERY}
    config["scrape_configs"][0]["proxy_url"] = f"http://127.0.0.1:{hub_port}"
    (folder / "etc").mkdir()
    (folder / "etc/prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(ROOT / "deploy/prometheus/rules.yml", folder / "etc/rules.yml")
    changes = {"0.0.0.0": "127.0.0.1", "9090": str(free_port())}
    changes |= {"/etc/prometheus": str(folder / "etc"), "=/prometheus": f"={folder}/data"}
    made = _service("prometheus", folder, changes)
    made.command = ["prometheus", *made.command]
    yield from _running(made)


def _service(name: str, folder: Path, changes: Mapping[str, str]) -> Service:
    said = services()[name]
    command = [_changed(word, changes) for word in said["command"]]
    [url] = re.findall(r"http://[^\s'\"]+", " ".join(said["healthcheck"]["test"]))
    return Service(command, folder, _changed(url, changes))


def _changed(word: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        word = word.replace(old, new)
    return word


def _running(service: Service) -> Iterator[Service]:
    service.start()
    try:
        yield service
    finally:
        service.kill()
