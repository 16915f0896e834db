"""`manage.py up`: the whole hub, until Ctrl-C."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from argparse import ArgumentParser
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from hub.config import config, load
from hub.processes.supervisor import CannotStart, Output, Supervisor

_LOG_BYTES = 10_000_000
_LOGS_KEPT = 5
_COLOURS = {"web": 36, "engine": 35, "background": 33, "up": 32}


class Command(BaseCommand):
    help = "Start web, engine, worker and sampler; restart what exits; Ctrl-C stops all of them."
    requires_system_checks = ()  # they load every page; this one should start at once

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=config.host, help="default: %(default)s")
        parser.add_argument("--port", type=int, default=config.port, help="default: %(default)s")

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        settings = load(host=host, port=port)
        write = LogFile(settings.log_file) if settings.log_file else prefixed
        hub = Supervisor(settings, write)
        ended = threading.Event()

        def end(number: int, frame: object) -> None:
            if ended.is_set():  # the second signal kills at once
                hub.kill()
            ended.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, end)
        try:
            hub.start()
            threading.Thread(target=self._print_url, args=(hub, ended, write), daemon=True).start()
            ended.wait()
        except CannotStart as problem:
            raise CommandError(str(problem)) from None
        finally:
            hub.stop()

    def _print_url(self, hub: Supervisor, ended: threading.Event, write: Output) -> None:
        try:
            hub.wait_ready()
        except CannotStart as problem:
            if not ended.is_set():
                write("up", str(problem))
        else:
            self.stdout.write(f"MLX Model Hub is running at {hub.url}/ (Ctrl-C stops it)")
            self.stdout.flush()


class LogFile:
    """Writes the lines of all processes into one file, which is renamed at _LOG_BYTES; _LOGS_KEPT older
    ones stay."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = RotatingFileHandler(
            path, maxBytes=_LOG_BYTES, backupCount=_LOGS_KEPT, encoding="utf-8"
        )
        self.close = self._file.close

    def __call__(self, name: str, line: str) -> None:
        said = line if line.startswith("{") else f"{name:>10} | {line}"
        self._file.handle(logging.makeLogRecord({"msg": said}))


def prefixed(name: str, line: str) -> None:
    """Write one line of a process's log, prefixed unless it is JSON, which names its process."""
    if not line.startswith("{"):
        label = f"{name:>10}"
        if sys.stderr.isatty():
            label = f"\x1b[{_COLOURS.get(name, 37)}m{label}\x1b[0m"
        line = f"{label} | {line}"
    sys.stderr.write(f"{line}\n")
