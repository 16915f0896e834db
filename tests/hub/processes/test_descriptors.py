"""Files and sockets: what a Mac gives a program is too little for many streams."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from hub.monitoring import doctor
from hub.processes import descriptors

ROOT = Path(__file__).parents[3]
_STREAMS = """
import resource, socket
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
from hub.processes.descriptors import raise_limit
print(raise_limit())
pairs = [socket.socketpair() for stream in range(500)]
print(len(pairs))
"""


def test_500_streams_hold_where_256_files_are_the_limit() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _STREAMS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    limit, streams = map(int, done.stdout.split())
    assert limit >= descriptors.ENOUGH
    assert streams == 500


def test_the_command_line_raises_the_limit_for_every_process() -> None:
    code = (
        "import resource, runpy, sys; sys.argv = ['manage.py', 'check'];"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard));"
        "import django.core.management as m; m.execute_from_command_line = lambda argv: None;"
        "runpy.run_path('manage.py', run_name='__main__');"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) >= descriptors.ENOUGH


def test_a_hard_limit_is_kept_and_the_doctor_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 800))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: told.append(limits))
    (finding,) = doctor._descriptors()
    assert told == [(800, 800)]
    assert (finding.state, finding.found) == ("warning", "800 at most per process")
    assert "ulimit -Hn" in finding.fix


def test_a_system_that_refuses_leaves_it_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS says that the hard limit is infinite, and refuses more than its own."""

    def refuse(kind: int, limits: tuple[int, int]) -> None:
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert descriptors.raise_limit() == 256
