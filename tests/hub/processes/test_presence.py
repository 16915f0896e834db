"""Which processes are running: a lock that is released when its holder exits."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hub.config import load
from hub.processes import presence
from hub.processes.supervisor import CannotStart, Supervisor
from tests.running import ROOT, wait_until

_HOLDER = """
import sys, time, django
from django.conf import settings
settings.configure(STORAGE=sys.argv[1])
from hub.processes import presence
presence.announce("worker")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(storage: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(storage)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


def test_no_process_is_present_at_first() -> None:
    assert not presence.alive("worker")
    assert presence.pid("worker") is None


def test_a_process_announces_itself_until_it_is_killed(holder: subprocess.Popen[str]) -> None:
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert presence.pid("worker") == holder.pid
    with pytest.raises(presence.AlreadyRunning, match=f"pid {holder.pid}"):
        presence.announce("worker")
    holder.kill()
    wait_until(lambda: not presence.alive("worker"), timeout_s=5)


def test_its_own_presence_can_be_withdrawn() -> None:
    presence.announce("up")
    assert presence.pid("up") == os.getpid()
    presence.withdraw("up")
    assert presence.pid("up") is None


def test_a_drive_without_locks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")  # as SMB and WebDAV on macOS

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(CannotStart, match=r"has no file locks .* HUB_STORAGE"):
        Supervisor(load()).start()
