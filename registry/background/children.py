"""Children that do long work for the web process and outlive it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from django.conf import settings

from backends.mac.power import caffeinate
from registry import traces
from registry.storage import paths


def start(*arguments: str, log: str, died: Callable[[], object]) -> None:
    """Run `manage.py` with these arguments in a process of its own, its output in `storage/run`
    under the name `log`. `died` is called when it ends with a failure, so that a killed child is
    noticed immediately and not only by its silence."""
    command = [sys.executable, str(Path(settings.BASE_DIR) / "manage.py"), *arguments]
    with (paths.run_dir() / log).open("ab") as output:
        child = subprocess.Popen(
            command,
            cwd=settings.BASE_DIR,
            env={**os.environ, **traces.environment()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    threading.Thread(target=_await, args=(child, died), daemon=True).start()


def _await(child: subprocess.Popen[bytes], died: Callable[[], object]) -> None:
    from django.db import connection

    awake = caffeinate("-i", "-w", str(child.pid))  # a download of an hour keeps a Mac awake
    try:
        if child.wait():
            died()
    finally:
        connection.close()
        if awake:
            awake.terminate()
            awake.wait()
