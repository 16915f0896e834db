"""Run as a process: kill `complete_version` at many of its lines and finish it afterwards.

Each attempt runs in a fork that counts the lines it executes in the two modules under test and
sends itself SIGKILL at one of them. Prints as JSON what each attempt left behind.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from tests.registry.killing import fork, killed, model_for_all, set_up

executed = 0


def die_at(line: int, modules: set[str]) -> Callable[..., Any]:
    """A trace function that kills the process at the `line`-th line executed in `modules`."""

    def trace(frame: FrameType, event: str, _: object) -> Any:
        global executed
        if frame.f_code.co_filename not in modules:
            return None
        if event == "line":
            executed += 1
            if executed == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def attempt(line: int, number: int) -> dict[str, Any]:
    """Kill at `line`, look at what is left, repeat, look again."""
    from registry.storage import artifacts, paths
    from registry.versions import lifecycle
    from tests.registry.build import begin, make_staging

    version = begin(model_for_all(), iters=number)
    content = f"weights {number}".encode()
    staging = make_staging(content)

    def complete() -> None:
        sys.settrace(die_at(line, {str(artifacts.__file__), str(lifecycle.__file__)}))
        lifecycle.complete_version(version, staging, {"n": number})
        (paths.root() / "lines").write_text(str(executed))

    died = killed(fork(complete))
    version.refresh_from_db()
    left = {"status": version.status, "problems": problems(version, content)}
    lifecycle.complete_version(version, staging, {"n": number})
    return {
        "line": line,
        "killed": died,
        "left": left,
        "after": {"status": version.status, "problems": problems(version, content)},
        "staging_left": staging.exists(),
    }


def problems(version: Any, content: bytes) -> list[str]:
    """What is wrong with a version that says it is ready."""
    from registry.storage import paths
    from registry.storage.checks import check_folder

    if version.status != "ready":
        return []
    folder = paths.absolute(version.artifact_path)
    found = check_folder(folder, version.manifest_sha256)
    if not found and (folder / "adapters.safetensors").read_bytes() != content:
        found.append("The weights are not those that were trained.")
    return found


def main(attempts: int, seed: int) -> None:
    set_up()
    from registry.storage import paths

    draw = random.Random(seed)
    first = attempt(10**9, 0)  # never killed: how it goes undisturbed
    lines = int((paths.root() / "lines").read_text())
    chosen = sorted(draw.sample(range(1, lines + 1), attempts))
    print(json.dumps([first, *(attempt(line, n) for n, line in enumerate(chosen, start=1))]))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
