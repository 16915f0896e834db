"""`manage.py demo`: train and serve a real model, then keep the hub running."""

from __future__ import annotations

import signal
import socket
import threading
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from hub.config import config, load
from hub.demo.walkthrough import Demo, write_report
from hub.management.commands.up import prefixed
from hub.processes import ports
from hub.processes.supervisor import CannotStart, Supervisor
from registry.errors import HubError
from registry.storage import paths


class Command(BaseCommand):
    help = "Register, train, version and serve a real model on this machine, then keep running."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--port", type=int, default=None, help="default: HUB_PORT or a free one"
        )
        parser.add_argument(
            "--minutes",
            type=float,
            default=5.0,
            help="a slow machine trains fewer steps to be done in time; default: %(default)s",
        )
        parser.add_argument("--exit", action="store_true", help="exit after the report")
        parser.add_argument("--report", type=Path, metavar="FILE", help="write all results as JSON")

    def handle(
        self,
        *args: Any,
        port: int | None,
        minutes: float,
        report: Path | None,
        exit: bool,
        **options: Any,
    ) -> None:
        began = time.monotonic()
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        console = Console()
        log = _Log()
        # Another hub on this machine may have the second port.
        hub = Supervisor(load(port=port or _free_port(console), ollama_port=None), log)
        try:
            console.print("[bold]MLX Model Hub[/]: register → train → version → serve → monitor\n")
            console.print("Starting the hub: web, engine, worker and sampler…")
            hub.start()
            hub.wait_ready()
            demo = Demo(hub.url, console, 60 * minutes - (time.monotonic() - began))
            demo.run()
            demo.show()
            if report:
                write_report(demo.figures, report)
            if not exit:
                console.print(f"\nThe hub is running at [bold]{hub.url}/[/] (Ctrl-C stops it)")
                log.follow()
                ended.wait()
        except (CannotStart, HubError) as problem:
            raise CommandError(f"{problem} The log is in {log.path}.") from None
        except KeyboardInterrupt:
            console.print("Stopping…")
        finally:
            signal.signal(signal.SIGINT, lambda *_: hub.kill())  # asked twice: do not be polite
            hub.stop()
            log.close()


class _Log:
    """The processes' logs: to a file while the demo prints, to the terminal afterwards."""

    def __init__(self) -> None:
        paths.make_folders()
        self.path = paths.run_dir() / "demo.log"
        self._file = self.path.open("w")
        self._following = False

    def follow(self) -> None:
        self._following = True

    def close(self) -> None:
        self._file.close()

    def __call__(self, name: str, line: str) -> None:
        if self._following:
            prefixed(name, line)
        elif not self._file.closed:
            self._file.write(f"{name:>7} | {line}\n")
            self._file.flush()


def _free_port(console: Console) -> int:
    """The configured port, or any free one if another program uses it."""
    reason = ports.obstacle(config.host, config.port)
    if reason is None:
        return config.port
    with socket.socket() as probe:
        probe.bind((config.host, 0))
        free = int(probe.getsockname()[1])
    console.print(f"Port {config.port} cannot be used ({reason}), so the hub takes {free}.")
    return free


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
