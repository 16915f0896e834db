"""The process that answers one question: given up when it hangs, works too long, or dies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from registry.bases import child
from registry.errors import Unavailable

pytestmark = pytest.mark.any_database


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def python(code: str, started: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    started.append(subprocess.Popen([sys.executable, "-c", code]))
    return started[-1]


def test_one_that_does_nothing_is_given_up(
    started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_BEAT_S", 0.05)
    monkeypatch.setattr(child, "_SILENT_S", 1.0)
    beats: list[None] = []
    hanging = python("import time; time.sleep(60)", started)
    with pytest.raises(Unavailable, match="did nothing for"):
        child._wait(hanging, 60, lambda: beats.append(None))
    assert beats


def test_one_that_works_too_long_is_given_up(
    started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_BEAT_S", 0.05)
    monkeypatch.setattr(child, "_SILENT_S", 1.0)
    with pytest.raises(Unavailable, match="took over"):
        child._wait(python("while True: pass", started), 2.0, lambda: None)


def test_the_end_of_the_work_is_waited_for(
    started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_BEAT_S", 0.05)
    working = python("print('done')", started)
    child._wait(working, 60, lambda: None)
    assert working.returncode == 0
