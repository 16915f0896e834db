"""Runs the items: in children, so that one that crashes, hangs or fails ends no other."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from hub.config import ROOT
from hub.processes import lifeline
from hub.selftest.items import Item
from hub.selftest.report import Outcome, Row, not_right
from training.machine.processes import busyness

type Progress = Callable[[Item, str], None]
"""Is called at an item's start and whenever it has something to say."""


def run_all(
    items: Sequence[Item], folder: Path, *, quick: bool, progress: Progress
) -> Iterator[Row]:
    """Every item with its outcome, as it is done. What they write goes below `folder`."""
    with Children(folder, quick) as children:
        for item in items:
            began = time.monotonic()
            progress(item, "")
            outcome, processor_s = children.run(item, progress)
            seconds = time.monotonic() - began
            yield Row(item.name, item.group, item.asked, seconds, processor_s, outcome)


class Children:
    """One child at a time, started again after one that died and for items that need a fresh one."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self._folder, self._quick = folder, quick
        self._child: subprocess.Popen[str] | None = None
        self._log: IO[bytes] | None = None
        self._pipe: tuple[int, int]

    def __enter__(self) -> Self:
        self._log = (self._folder / "log.txt").open("ab")
        self._pipe = os.pipe()  # a child ends with whoever holds the other end of it
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind and self._child:
            _kill(self._child)  # whoever interrupts does not want to wait
        self._end()
        if self._log:
            self._log.close()
        for end in self._pipe:
            os.close(end)

    def run(self, item: Item, progress: Progress) -> tuple[Outcome, float]:
        """What became of it, and the processor time that it took."""
        fresh = item.fresh and not self._quick  # a quick run judges no memory
        if fresh:
            self._end()
        child = self._child or self._start()
        late = threading.Event()

        def give_up() -> None:
            late.set()
            _kill(child)

        limit_s = item.limit_s * busyness()
        timer = threading.Timer(limit_s, give_up)
        timer.start()
        try:
            found = _ask(child, item, progress)
        finally:
            timer.cancel()
        if found is not None:
            if fresh:
                self._end()  # what it left in memory is nobody else's
            return found
        status = child.wait()
        self._end()
        return self._lost(status, limit_s if late.is_set() else None), 0.0

    def _lost(self, status: int, limit_s: float | None) -> Outcome:
        """The outcome of an item that its process did not survive; `limit_s` when it took longer."""
        if limit_s is not None:
            return not_right(
                f"It was not done after {limit_s:.0f} s and was ended.",
                "Run it again while the machine does nothing else; report it if it stays so.",
            )
        how = f"code {status}" if status >= 0 else signal.Signals(-status).name
        return not_right(
            f"Its process ended with {how}.",
            "Please report this with the whole report.",
            last_line=self._last_line(),
        )

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "hub.selftest.child", str(self._folder)]
        end, _ = self._pipe
        self._child = subprocess.Popen(
            [*command, *(["--quick"] if self._quick else [])],
            cwd=ROOT,
            env=child_environment(self._folder) | {lifeline.VARIABLE: str(end)},
            pass_fds=(end,),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired, BrokenPipeError, ValueError):
            child.communicate(timeout=10)
        _kill(child)  # with what it started
        child.wait()

    def _last_line(self) -> str:
        if self._log:
            self._log.flush()
        lines = (self._folder / "log.txt").read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""


def child_environment(folder: Path) -> dict[str, str]:
    """That of the engine and of training's processes, with a storage of the self-test's own."""
    return {
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "5000",
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "hub.settings",
        "HUB_STORAGE": str(folder / "storage"),
        "HUB_ENV_FILE": os.devnull,
        "DATABASE_URL": "",
        "PYTHONUNBUFFERED": "1",
    }


def _ask(
    child: subprocess.Popen[str], item: Item, progress: Progress
) -> tuple[Outcome, float] | None:
    """The child's outcome of an item and its processor time; None when it ended before it had one."""
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(item.place + "\n")
        child.stdin.flush()
    except OSError:
        return None
    for line in child.stdout:
        said: dict[str, Any] = json.loads(line)
        if "outcome" in said:
            return Outcome(**said["outcome"]), said["processor_s"]
        progress(item, said["progress"])
    return None


def _kill(child: subprocess.Popen[str]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
