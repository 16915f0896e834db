"""How the supervisor ends its processes when signals come again and again."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any, cast

import pytest

from hub.config import load
from hub.processes import presence, supervisor
from hub.processes.supervisor import Child, Supervisor

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
