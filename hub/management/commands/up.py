"""`manage.py up`: the whole hub, until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from hub.config import config, load
from hub.processes.supervisor import CannotStart, Supervisor

_COLOURS = {"web": 36, "engine": 35, "background": 33, "up": 32}


class Command(BaseCommand):
    help = "Start web, engine, worker and sampler; restart what exits; Ctrl-C stops all of them."
    requires_system_checks = ()  # the web process runs them, and this one should start at once

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=config.host, help="default: %(default)s")
        parser.add_argument("--port", type=int, default=config.port, help="default: %(default)s")

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        hub = Supervisor(load(host=host, port=port), prefixed)
        ended = threading.Event()

        def end(number: int, frame: object) -> None:
            if ended.is_set():  # the second signal kills at once
                hub.kill()
            ended.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, end)
        try:
            hub.start()
            threading.Thread(target=self._print_url, args=(hub, ended), daemon=True).start()
            ended.wait()
        except CannotStart as problem:
            raise CommandError(str(problem)) from None
        finally:
            hub.stop()

    def _print_url(self, hub: Supervisor, ended: threading.Event) -> None:
        try:
            hub.wait_ready()
        except CannotStart as problem:
            if not ended.is_set():
                prefixed("up", str(problem))
        else:
            self.stdout.write(f"MLX Model Hub is running at {hub.url}/ (Ctrl-C stops it)")
            self.stdout.flush()


def prefixed(name: str, line: str) -> None:
    """Write one line of a process's log, prefixed unless it is JSON, which names its process."""
    if not line.startswith("{"):
        label = f"{name:>10}"
        if sys.stderr.isatty():
            label = f"\x1b[{_COLOURS.get(name, 37)}m{label}\x1b[0m"
        line = f"{label} | {line}"
    sys.stderr.write(f"{line}\n")
