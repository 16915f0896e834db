"""Starts the hub's processes, restarts those that exit, and stops all of them without orphans.

Each child leads its own session, so that Ctrl-C reaches only `up`, and one signal stops a child with
everything it started. A pipe from `up` (see `hub.processes.lifeline`) stops the children of an `up`
that was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any, Self
from urllib.parse import urlsplit

from hub.config import HOME, Config
from hub.processes import lifeline, ports, presence, restarts
from registry.storage import paths

STOP_S = 3.0  # from the end of the engine's drain to SIGKILL; by default `up` exits within 10 s
STABLE_S = 60.0  # a process that ran this long gets its back-off reset
BACKOFF_S = (0.5, 30.0)
_DIED = "A process ended before it had prepared the database; its last lines above say why."

Output = Callable[[str, str], None]
"""Receives the process's name and one line of its log, without the newline."""


class CannotStart(RuntimeError):
    """The hub cannot start; the text says why and what to do."""


@dataclass
class Child:
    """One supervised process. `nice` applies on Linux, where all processes share a few cores; `later`
    means once the database is prepared."""

    name: str
    command: tuple[str, ...]
    nice: int = 0
    later: bool = False
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
    """The processes of `up`. The engine computes for seconds while a page needs milliseconds: at nice
    5 it gets a third of the web process's CPU time when both want the same core, and still all of an
    idle core. The worker's training child runs at a lower priority still."""
    return [
        Child("web", ("run_web",)),
        Child("engine", ("run_engine",), nice=5),
        Child("background", ("run_background",), later=True),
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
        self._restarts: restarts.Restarts | None = None

    @property
    def url(self) -> str:
        """The hub's address from this machine."""
        return self.config.url

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Prepare the storage folder and the database, then start every process. Raises CannotStart."""
        try:
            presence.announce("up")
        except presence.AlreadyRunning as problem:
            raise CannotStart(str(problem)) from None
        try:
            paths.make_folders()
            check_port(self.config.host, self.config.port)
            if self.config.ollama_port is not None:
                check_port(self.config.host, self.config.ollama_port, "HUB_OLLAMA_PORT")
            self._pipe = os.pipe()
            self._restarts = restarts.Restarts([child.name for child in self.children])
            self._start_children()
            self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
            self._watcher.start()
        except BaseException:
            self.stop()
            raise

    def _start_children(self) -> None:
        """The web process prepares the database once it has imported what it serves with, and the
        engine, which needs no database, starts beside it. Who waits for work anyway comes after: an
        answer needs the first two, and two cores."""
        read, write = os.pipe()
        try:
            for child in self.children:
                if not child.later:
                    self._spawn(child, prepares=write if child.name == "web" else None)
        finally:
            os.close(write)
        with os.fdopen(read, "rb") as pipe:
            said = pipe.read()
        if said != lifeline.READY:
            raise CannotStart(said.decode() or _DIED)
        for child in self.children:
            if child.later:
                self._spawn(child)

    def wait_ready(self, timeout_s: float = 120.0) -> None:
        """Return when `/health` says ready. Raises CannotStart with the reasons if it never does."""
        deadline = time.monotonic() + timeout_s
        reason = "the web process is not responding"
        while time.monotonic() < deadline and not self._stopping.is_set():
            try:
                status, health = ask_health(self.url)
                if status == 200:
                    return
                reason = unready(health)
            except (OSError, HTTPException, ValueError):
                pass
            time.sleep(0.25)  # an answer takes 9 ms of a processor that starting processes want
        raise CannotStart(f"The hub is not ready after {timeout_s:.0f} s: {reason}.")

    def stop(self) -> None:
        """Stop every process: SIGTERM, then SIGKILL after the drain and STOP_S. Safe to repeat."""
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
        for child in self.children:
            if child.process:
                child.process.wait()
            if child.reader:
                child.reader.join(1)
        if self._pipe:
            for descriptor in self._pipe:
                os.close(descriptor)
            self._pipe = None
        presence.withdraw("up")

    def kill(self) -> None:
        """Kill what still runs, with everything the processes started. A signal's handler may call it
        while `stop` waits: it takes no lock and waits for nothing."""
        for child in self.children:
            _signal(child, signal.SIGKILL)

    def _spawn(self, child: Child, prepares: int | None = None) -> None:
        """Start the process; with `prepares`, it prepares the database and reports to that pipe."""
        assert self._pipe is not None
        environment, inherited = self._environment(), [self._pipe[0]]
        if prepares is not None:
            environment[lifeline.PREPARED] = str(prepares)
            inherited.append(prepares)
        child.process = subprocess.Popen(
            [sys.executable, str(HOME / "manage.py"), *child.command],
            cwd=HOME,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=inherited,
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
            "HUB_OLLAMA_PORT": str(self.config.ollama_port or 0),
            "PYTHONUNBUFFERED": "1",
            # Spinning OpenMP threads would take the core that a page needs.
            "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
            # glibc keeps freed memory for each thread: 17 MB of the engine's after its first answer.
            "MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2"),
            lifeline.VARIABLE: str(self._pipe[0]),
        }
        if self.config.log_format == "auto":
            seen = sys.stderr.isatty() and self.config.log_file is None
            environment["HUB_LOG_FORMAT"] = "console" if seen else "json"
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
                    self._schedule_restart(child, child.process.returncode)
                if child.process is None and time.monotonic() >= child.start_at:
                    self._spawn(child)

    def _schedule_restart(self, child: Child, exit_code: int) -> None:
        _signal(child, signal.SIGKILL)  # kills what the dead process left running
        if time.monotonic() - child.started_at >= STABLE_S:
            child.backoff_s = BACKOFF_S[0]
        how = f"exited with code {exit_code}"
        if exit_code < 0:
            how = f"was killed by {signal.Signals(-exit_code).name}"
        self.output("up", f"{child.name} {how}; restarting in {child.backoff_s:g} s.")
        child.process = None
        child.restarts += 1
        if self._restarts:
            self._restarts.add(child.name)
        child.start_at = time.monotonic() + child.backoff_s
        child.backoff_s = min(child.backoff_s * 2, BACKOFF_S[1])


def check_port(host: str, port: int, setting: str = "HUB_PORT") -> None:
    """Raises CannotStart, which names the `setting` to change, when the port cannot be used."""
    if reason := ports.obstacle(host, port):
        todo = ports.remedy(port, setting)
        raise CannotStart(f"Port {port} of {host} cannot be used ({reason}). {todo}")


def ask_health(url: str) -> tuple[int, Any]:
    """Status and body of `/health`. Raises OSError, HTTPException and ValueError."""
    address = urlsplit(url)  # of this machine, so no proxy is asked
    asking = HTTPConnection(address.hostname or "", address.port, timeout=5)
    with contextlib.closing(asking):
        asking.request("GET", "/health", headers={"Host": "localhost"})
        response = asking.getresponse()
        return response.status, json.loads(response.read())


def unready(health: dict[str, object]) -> str:
    """The reasons in a response of `/health`, on one line."""
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


def _print(name: str, line: str) -> None:
    print(f"{name:>7} | {line}", file=sys.stderr)
