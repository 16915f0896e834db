"""One question to the backend in a process of its own: `python -m registry.bases.child`.

Memory that runs out there ends only that process, and the web process, which may be the one that
asks, never loads MLX. Arguments: the pid of the calling process, the backend's name, the method, and its arguments as JSON, paths
as `{"path": …}`. The last line of the output is the answer as JSON: the dataclass's fields, null,
or `error`, a sentence for a person.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backends import get_backend
from backends.base import BackendError

_LIMIT_S = 3600.0
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
    found = _ask_child([settings.BACKEND, method, json.dumps(arguments, default=_as_json)], beat)
    if found is None:
        return kind()  # `NoneType()` is None
    if "error" in found:
        raise Invalid(found["error"])
    if "path" in found:
        found["path"] = Path(found["path"])
    return kind(**found)


def _ask_child(arguments: list[str], beat: Callable[[], None]) -> Any:
    from django.conf import settings

    from registry.errors import Unavailable

    command = [sys.executable, "-m", "registry.bases.child", str(os.getpid()), *arguments]
    # Files, not pipes: nobody reads while this process waits, and a full pipe would stop the child.
    with (
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, cwd=settings.BASE_DIR, stdout=output, stderr=errors) as child,
    ):
        try:
            _wait(child, beat)
        finally:
            child.kill()  # does nothing to one that has ended
            child.wait()
        output.seek(0)
        errors.seek(0)
        try:
            return json.loads(output.read().decode().splitlines()[-1])
        except (IndexError, ValueError):
            lines = errors.read().decode(errors="replace").strip().splitlines()
    reason = (lines or ["no output"])[-1]
    raise Unavailable(
        f"The model's process failed (exit status {child.returncode}: {reason}). "
        "Is there enough memory?"
    )


def _wait(child: subprocess.Popen[bytes], beat: Callable[[], None]) -> None:
    from registry.errors import Unavailable

    deadline = time.monotonic() + _LIMIT_S
    while True:
        try:
            child.wait(_BEAT_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise Unavailable("The work took over an hour and was stopped.") from None
            beat()
        else:
            return


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
    given = [Path(a["path"]) if isinstance(a, dict) else a for a in json.loads(arguments)]
    answer: Any
    try:
        answer = getattr(get_backend(backend), method)(*given)
        answer = dataclasses.asdict(answer) if dataclasses.is_dataclass(answer) else None  # type: ignore[arg-type]
    except BackendError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
