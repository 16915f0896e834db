"""Starts the hub's processes, restarts what dies, ends all of them, leaves no orphan.

Each child leads its own session, so that Ctrl-C reaches only `up` and one signal ends a child with
everything it started. A pipe from here (see `hub.processes.lifeline`) ends the children of an `up` that was
killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import httpx
from django.core.management import call_command
from django.db import connection

from hub.config import ROOT, Config
from hub.processes import belonging, exposure, lifeline, presence
from registry.storage import paths

STOP_S = 3.0  # from the end of the engine's drain to SIGKILL; by default all is over within 10 s
STABLE_S = 60.0  # a process that lived this long starts its back-off anew
BACKOFF_S = (0.5, 30.0)

Output = Callable[[str, str], None]
"""Receives the process's name and one line of its log, without the line's end."""


class CannotStart(RuntimeError):
    """The hub cannot start; the text says why and what to do."""


@dataclass
class Child:
    """One supervised process. `nice` is added on Linux, where all share the same few cores."""

    name: str
    command: tuple[str, ...]
    nice: int = 0
    process: subprocess.Popen[str] | None = None
    started_at: float = 0.0
    restarts: int = 0
    backoff_s: float = BACKOFF_S[0]
    start_at: float = 0.0
    reader: threading.Thread | None = field(default=None, repr=False)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None


def children() -> list[Child]:
    """What `up` runs. The engine computes for whole seconds while a page needs milliseconds: with
    nice 5 the web process weighs three times as much when both want the same core, and the engine
    still gets all of an idle one. The worker lowers its training child further still."""
    return [
        Child("engine", ("run_engine",), nice=5),
        Child("web", ("run_web",)),
        Child("worker", ("run_worker",)),
        Child("sampler", ("run_sampler",)),
    ]


class Supervisor:
    """All processes of one hub. `with Supervisor(config) as hub: hub.wait_ready()`."""

    def __init__(self, config: Config, output: Output | None = None) -> None:
        self.config = config
        self.output = output or _print
        self.children = children()
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None
        self._pipe: tuple[int, int] | None = None

    @property
    def url(self) -> str:
        """Where this machine reaches the hub."""
        host = "127.0.0.1" if self.config.host in ("0.0.0.0", "::") else self.config.host  # noqa: S104  # nosec B104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.config.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Prepare storage and database and start every process. Raises CannotStart."""
        try:
            presence.announce("up")
        except presence.AlreadyRunning as problem:
            raise CannotStart(str(problem)) from None
        try:
            self._check()
            self._pipe = os.pipe()
            for child in self.children:
                self._spawn(child)
            self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
            self._watcher.start()
        except BaseException:
            self.stop()
            raise

    def _check(self) -> None:
        paths.make_folders()
        check_port(self.config.host, self.config.port)
        try:
            call_command("migrate", interactive=False, verbosity=0)
            paths.close_to_others()  # the database may be new
            problem = exposure.problem(self.config) or belonging.problem()
        finally:
            connection.close()
        if problem:
            raise CannotStart(problem)

    def wait_ready(self, timeout_s: float = 120.0) -> None:
        """Return when `/health` says ready. Raises CannotStart with its reasons when it does not."""
        deadline = time.monotonic() + timeout_s
        reason = "the web process does not answer"
        while time.monotonic() < deadline and not self._stopping.is_set():
            try:
                answer = httpx.get(f"{self.url}/health", headers=self._host(), timeout=5)
                if answer.status_code == 200:
                    return
                reason = unready(answer.json())
            except (httpx.HTTPError, ValueError):
                pass
            time.sleep(0.1)
        raise CannotStart(f"The hub is not ready after {timeout_s:.0f} s: {reason}.")

    def _host(self) -> dict[str, str]:
        allowed = self.config.allowed_hosts
        return {"Host": allowed[0]} if allowed and allowed[0] != "*" else {}

    def stop(self) -> None:
        """End every process when the drain is over and STOP_S, by force after that. Safe to call
        again."""
        self._stopping.set()
        if self._watcher:
            self._watcher.join()
        for child in self.children:
            _signal(child, signal.SIGTERM)
        deadline = time.monotonic() + self.config.drain_s + STOP_S
        for child in self.children:
            if child.process:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()
        if self._pipe:
            for descriptor in self._pipe:
                os.close(descriptor)
            self._pipe = None
        presence.withdraw("up")

    def kill(self) -> None:
        """End at once what is left, with everything the processes started."""
        for child in self.children:
            _signal(child, signal.SIGKILL)
            if child.process:
                child.process.wait()
            if child.reader:
                child.reader.join(1)

    def _spawn(self, child: Child) -> None:
        assert self._pipe is not None
        child.process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), *child.command],
            cwd=ROOT,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=(self._pipe[0],),
            start_new_session=True,
        )
        if child.nice and sys.platform == "linux":
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, child.process.pid, child.nice)
        child.started_at = time.monotonic()
        child.reader = threading.Thread(
            target=self._read, args=(child.name, child.process), daemon=True
        )
        child.reader.start()

    def _environment(self) -> dict[str, str]:
        assert self._pipe is not None
        environment = {
            **os.environ,
            "HUB_HOST": self.config.host,
            "HUB_PORT": str(self.config.port),
            "PYTHONUNBUFFERED": "1",
            # Spinning OpenMP threads would take the core that a page is waiting for.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
            lifeline.VARIABLE: str(self._pipe[0]),
        }
        if self.config.log_format == "auto":
            environment["HUB_LOG_FORMAT"] = "console" if sys.stderr.isatty() else "json"
        return environment

    def _read(self, name: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self.output(name, line.rstrip("\n"))

    def _watch(self) -> None:
        while not self._stopping.wait(0.1):
            for child in self.children:
                if child.process and not child.is_running:
                    self._bury(child, child.process)
                if child.process is None and time.monotonic() >= child.start_at:
                    self._spawn(child)

    def _bury(self, child: Child, process: subprocess.Popen[str]) -> None:
        """Kill what the dead process left behind and say when it will be started again."""
        _signal(child, signal.SIGKILL)
        if time.monotonic() - child.started_at >= STABLE_S:
            child.backoff_s = BACKOFF_S[0]
        self.output(
            "up", f"{child.name} {_ending(process)}; it starts again in {child.backoff_s:g} s."
        )
        child.process = None
        child.restarts += 1
        child.start_at = time.monotonic() + child.backoff_s
        child.backoff_s = min(child.backoff_s * 2, BACKOFF_S[1])


def check_port(host: str, port: int) -> None:
    """Raises CannotStart when nobody could listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will
            probe.bind(address)
    except OSError as error:
        raise CannotStart(
            f"Port {port} of {host} cannot be used ({error.strerror}): end the program that has "
            "it, or choose another with --port."
        ) from None


def unready(health: dict[str, object]) -> str:
    """The reasons in an answer of `/health`, in one line."""
    parts = health.get("parts")
    if not isinstance(parts, dict):
        return "its health is unknown"
    return "; ".join(
        f"{name}: {part['reason']}" for name, part in parts.items() if part["status"] == "failed"
    )


def _signal(child: Child, number: signal.Signals) -> None:
    if child.process:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, number)


def _ending(process: subprocess.Popen[str]) -> str:
    code = process.returncode
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _print(name: str, line: str) -> None:
    print(f"{name:>7} | {line}", file=sys.stderr)
