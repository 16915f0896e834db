"""How the supervisor ends its processes when signals come again and again, and what it gives them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.core.management import CommandError, call_command

from hub.config import load
from hub.management.commands import demo
from hub.processes import presence, supervisor
from hub.processes.supervisor import CannotStart, Child, Supervisor

pytestmark = pytest.mark.any_database


class Slow:
    """A process that takes a while to end. As subprocess's own does, its `wait` holds a lock."""

    pid = 0

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def wait(self, timeout: float | None = None) -> int:
        assert self._lock.acquire(timeout=1), "waited for within a signal's handler"
        time.sleep(0.2)
        self._lock.release()
        return 0


def test_ctrl_c_pressed_often_kills_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(supervisor, "_signal", lambda child, number: sent.append(number))
    monkeypatch.setattr(presence, "withdraw", lambda name: None)
    hub = Supervisor(load())
    hub.children = [Child("web", ("run_web",), process=cast(Any, Slow()))]
    before = signal.signal(signal.SIGUSR1, lambda *_: hub.kill())
    try:
        presses = [
            threading.Timer(0.03 * n, os.kill, (os.getpid(), signal.SIGUSR1)) for n in range(1, 6)
        ]
        for press in presses:
            press.start()
        hub.stop()
        for press in presses:
            press.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert sent[0] == signal.SIGTERM
    assert sent.count(signal.SIGKILL) == len(presses) + 1


def test_readiness_is_asked_by_a_name_that_is_always_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, dict[str, str]]] = []

    class Connection:
        def __init__(self, host: str, port: int, timeout: float) -> None:
            self.at = f"{host}:{port}"

        def request(self, method: str, path: str, headers: dict[str, str]) -> None:
            asked.append((f"{method} {self.at}{path}", headers))

        def getresponse(self) -> Any:
            return SimpleNamespace(status=200, read=lambda: b"{}")

        def close(self) -> None: ...

    monkeypatch.setattr(supervisor, "HTTPConnection", Connection)
    Supervisor(load(host="0.0.0.0", port=8000, allowed_hosts="*")).wait_ready()
    assert asked == [("GET 127.0.0.1:8000/health", {"Host": "localhost"})]


@pytest.fixture
def signals() -> Iterator[None]:
    """What a command does with signals ends with the test."""
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    }
    yield
    for number, answer in before.items():
        signal.signal(number, answer)


def test_the_demo_leaves_the_second_port_to_another_hub(
    storage: Path, signals: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_OLLAMA_PORT", "11434")
    started: list[tuple[int | None, str]] = []

    class Noted(Supervisor):
        def start(self) -> None:
            self._pipe = (-1, -1)
            started.append((self.config.ollama_port, self._environment()["HUB_OLLAMA_PORT"]))
            self._pipe = None
            raise CannotStart("Enough.")

    monkeypatch.setattr(demo, "Supervisor", Noted)
    with pytest.raises(CommandError, match="Enough"):
        call_command("demo", "--exit", "--port", "8123")
    assert started == [(None, "0")]


def test_freed_memory_is_not_kept_for_each_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Supervisor(load())
    hub._pipe = (-1, -1)
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    assert hub._environment()["MALLOC_ARENA_MAX"] == "2"
    monkeypatch.setenv("MALLOC_ARENA_MAX", "8")
    assert hub._environment()["MALLOC_ARENA_MAX"] == "8"


def test_a_second_port_reaches_the_children() -> None:
    hub = Supervisor(load(ollama_port=11434))
    hub._pipe = (-1, -1)
    assert hub._environment()["HUB_OLLAMA_PORT"] == "11434"
