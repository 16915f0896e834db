"""A real engine and a real web process on a storage of their own, for tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests import running

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

ROOT = Path(__file__).resolve().parent.parent.parent
START_S = 120.0  # machines under load take a minute to import Django twice


class Hub:
    """Web and engine as `manage.py up` starts them, with the fake backend."""

    def __init__(self, storage: Path, database_url: str) -> None:
        self.env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "hub.settings",
            "HUB_STORAGE": str(storage),
            "HUB_BACKEND": "fake",
            "HUB_ENV_FILE": os.devnull,
            "HUB_LOG_FORMAT": "json",
            "HUB_MAX_QUEUE": "4",
            "DATABASE_URL": database_url,
        }
        self.log = storage.parent / "processes.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.engine: subprocess.Popen[bytes] | None = None
        self._web: subprocess.Popen[bytes] | None = None

    @property
    def engine_pid(self) -> int:
        assert self.engine is not None
        return self.engine.pid

    def seed(self) -> None:
        if not self.env["DATABASE_URL"]:
            storage = Path(self.env["HUB_STORAGE"])
            storage.mkdir(mode=0o700, exist_ok=True)
            running.put_hub_store(storage / "hub.sqlite3")
        subprocess.run(
            [sys.executable, "-m", "tests.inference.seed"], env=self.env, cwd=ROOT, check=True
        )

    def start_web(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "hub.asgi:application", "--lifespan", "off"]
        self._web = self._start([*command, "--host", "127.0.0.1", "--port", str(self.port)])
        wait_for(lambda: httpx.get(f"{self.url}/v1/models").is_success, errors=httpx.HTTPError)
        httpx.get(f"{self.url}/health", timeout=60)  # which imports the rest

    def start_engine(self, *arguments: str, **pace: Any) -> None:
        """Start (again) with the fake's pace, such as TOKENS_PER_SECOND=20."""
        self.stop_engine()
        env = {f"HUB_FAKE_{name}": str(value) for name, value in pace.items()}
        self.engine = self._start([sys.executable, "manage.py", "run_engine", *arguments], env)
        wait_for(lambda: self.stats()["pid"] == self.engine_pid, errors=(KeyError, AssertionError))

    def stop_engine(self, number: int = signal.SIGTERM) -> int | None:
        """Signal the engine, wait until it is gone, and return its exit code."""
        if self.engine is None:
            return None
        self.engine.send_signal(number)
        code = self.engine.wait(20)
        self.engine = None
        return code

    def stop(self) -> None:
        self.openai.close()
        self.stop_engine()
        if self._web is not None:
            self._web.send_signal(signal.SIGTERM)
            self._web.wait(20)

    def stats(self) -> dict[str, Any]:
        """The engine's statistics over HTTP; the error's body when it is away."""
        return dict(httpx.get(f"{self.url}/api/inference/engine", timeout=10).json())

    def requests(self) -> list[dict[str, Any]]:
        """The request log, newest first."""
        return list(httpx.get(f"{self.url}/api/requests?limit=100", timeout=10).json()["items"])

    @cached_property
    def openai(self) -> OpenAI:
        from openai import OpenAI

        return OpenAI(base_url=f"{self.url}/v1", api_key="any", max_retries=0)

    def async_openai(self) -> AsyncOpenAI:
        from openai import AsyncOpenAI

        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key="any", max_retries=0)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A Python program beside them, to its end."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _start(
        self, command: list[str], env: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env={**self.env, **(env or {})}, stdout=log, stderr=log
            )


@contextmanager
def own_database() -> Iterator[str]:
    """DATABASE_URL of a new database: on the suite's PostgreSQL, or SQLite in storage."""
    with running.own_database() as environment:
        yield environment["DATABASE_URL"]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(
    condition: Callable[[], object],
    timeout: float = START_S,
    errors: type[Exception] | tuple[type[Exception], ...] = (),
) -> float:
    """Poll until `condition` holds and return the seconds that took."""
    began = time.perf_counter()
    while time.perf_counter() - began < timeout:
        try:
            if condition():
                return time.perf_counter() - began
        except errors:
            pass
        time.sleep(0.02)
    raise AssertionError(f"still not so after {timeout} s")
