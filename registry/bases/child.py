"""One question to the backend in a process of its own: `python -m registry.bases.child`.

Memory that runs out there ends only that process, and the web process, which may be the one that
asks, never loads MLX. Arguments: the pid of the calling process, the backend's name, the method, and its arguments as JSON, paths
as `{"path": …}`. The last line of the output is the answer as JSON: the dataclass's fields, null,
or `error`, a sentence for a person.

A stranger's file must not hang or fill the machine: a child that only looks at files has little time
and memory, and any child that does nothing at all for minutes is given up.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from backends import get_backend
from backends.base import BackendError, first_line
from backends.mac.limits import limit_memory
from backends.mac.memory import footprint

_LIMIT_S = 3600.0
_READS_ALL = frozenset({"measure"})
"""Methods that go through every row of a data set: a few milliseconds each, of millions."""
_READ_S = 24 * 3600.0
_LOOKS_ONLY = frozenset({"inspect", "check_gguf"})
"""Methods that read headers and settings, never weights."""
_LOOK_S = 120.0
_LOOK_BYTES = 4 << 30  # of address space, of which the libraries take most
_SILENT_S = 180.0
_BEAT_S = 1.0
_WATCH_S = 0.2


def ask_backend[Answer](
    kind: type[Answer],
    method: str,
    *arguments: Path | int | None,
    beat: Callable[[], None] = lambda: None,
) -> Answer:
    """What the backend's `method` gives, a `kind`; `beat` is called every second while it works.

    Raises Invalid with the backend's reason, Unavailable when its process died or took too long.
    The fake backend uses little memory and answers in this process.
    """
    from django.conf import settings

    from registry.errors import Invalid

    if settings.BACKEND == "fake":
        try:
            answer: Answer = getattr(get_backend("fake"), method)(*arguments)
        except BackendError as error:
            raise Invalid(str(error)) from error
        return answer
    found = _ask_child(method, json.dumps(arguments, default=_as_json), beat)
    if found is None:
        return kind()  # `NoneType()` is None
    if "error" in found:
        raise Invalid(found["error"])
    if "path" in found:
        found["path"] = Path(found["path"])
    return kind(**found)


def _ask_child(method: str, arguments: str, beat: Callable[[], None]) -> Any:
    from django.conf import settings

    from registry.errors import Unavailable

    command = [sys.executable, "-m", "registry.bases.child"]
    command += [str(os.getpid()), settings.BACKEND, method, arguments]
    # Files, not pipes: nobody reads while this process waits, and a full pipe would stop the child.
    with (
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, cwd=settings.BASE_DIR, stdout=output, stderr=errors) as child,
    ):
        try:
            _wait(child, _limit_s(method), beat)
        finally:
            child.kill()  # does nothing to one that has ended
            child.wait()
        output.seek(0)
        errors.seek(0)
        try:
            return json.loads(output.read().decode().splitlines()[-1])
        except (IndexError, ValueError):
            lines = errors.read().decode(errors="replace").strip().splitlines()
    if child.returncode < 0:
        raise Unavailable(
            f"The model's process was ended by signal {-child.returncode}, which most often means that "
            "memory ran out. Close other programs or take a smaller model."
        )
    reason = (lines or ["no output"])[-1]
    raise Unavailable(f"The model's process failed (exit status {child.returncode}: {reason}).")


def _limit_s(method: str) -> float:
    if method in _READS_ALL:
        return _READ_S
    return _LOOK_S if method in _LOOKS_ONLY else _LIMIT_S


def _wait(child: subprocess.Popen[bytes], limit_s: float, beat: Callable[[], None]) -> None:
    from registry.errors import Unavailable

    started = busy = time.monotonic()
    used = 0.0
    while True:
        try:
            child.wait(_BEAT_S)
            return
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        if (using := _processor_s(child.pid)) > used:
            used, busy = using, now
        if now - started > limit_s:
            raise Unavailable(f"The work took over {limit_s / 60:.0f} minutes and was stopped.")
        if now - busy > _SILENT_S:
            raise Unavailable(
                f"The model's process did nothing for {_SILENT_S / 60:.0f} minutes and was stopped. "
                "Is the disk with the model there?"
            )
        beat()


def _processor_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _as_json(value: Path) -> dict[str, str]:
    return {"path": str(value)}


def _end_with(parent: int) -> None:
    """End this process when the calling one is gone: nobody would read the answer, and a killed
    process cannot stop its children."""
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(1)


def main(parent: str, backend: str, method: str, arguments: str) -> None:
    """Print the answer."""
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    if method in _LOOKS_ONLY:
        too_much = "the model's files need more memory to read than there is"
        limit_memory(_LOOK_BYTES, too_much, footprint)
    given = [Path(a["path"]) if isinstance(a, dict) else a for a in json.loads(arguments)]
    work, answer = getattr(get_backend(backend), method), None
    try:
        answer = work(*given)
        answer = dataclasses.asdict(answer) if dataclasses.is_dataclass(answer) else None  # type: ignore[arg-type]
    except BackendError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": "The model's files need more memory to read than there is."}
    except Exception as error:
        traceback.print_exc()
        answer = {
            "error": f"The model cannot be read ({type(error).__name__}: {first_line(error):.200})."
        }
    print(json.dumps(answer, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
