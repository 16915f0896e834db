"""`manage.py install-service`: the hub starts with the user's session and is restarted when it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from hub.config import ENV_FILES, PROGRAM, config
from hub.processes import presence, service


class Command(BaseCommand):
    help = "Have systemd or launchd start the hub now and at every login, and keep it running."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--print", action="store_true", help="show the unit or agent, change nothing"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["print"]:
            self.stdout.write(service.text(config))
            return
        _check(service.place())
        try:
            service.install(config)
        except subprocess.CalledProcessError as error:
            said = " ".join((error.stderr or "").split()) or f"code {error.returncode}"
            raise CommandError(
                f"{service.place()} is written, but `{' '.join(error.cmd)}` failed: {said}"
            ) from None
        except FileNotFoundError as error:
            raise CommandError(
                f"{service.place()} is written, but there is no {error.filename} to start it; "
                f"start the hub with `{PROGRAM} up`."
            ) from None
        self.stdout.write(f"The hub runs as a service at {config.url}/: {service.place()}")
        self.stdout.write(f"Its log: {_log()}. `{PROGRAM} uninstall-service` ends and removes it.")
        if sys.platform != "darwin":
            self.stdout.write("To have it run while nobody is logged in: `loginctl enable-linger`.")
        if names := service.left_out(os.environ):
            self.stdout.write(
                f"Set in this shell only, so not for the service: {', '.join(names)}. Write them "
                f"into {ENV_FILES[0]} and run this again."
            )


def _check(place: Path) -> None:
    if {"archive-v0", "environments-v2"} & set(Path(sys.prefix).parts):
        raise CommandError(
            "uvx has the hub in a cache that may be emptied: run `uv tool install mlx-model-hub`, then "
            "`mlx-hub install-service`."
        )
    if presence.alive("up") and not place.exists():
        raise CommandError("The hub is running; stop it first (Ctrl-C where it was started).")


def _log() -> str:
    if sys.platform == "darwin":
        return str(config.log_file or Path.home() / "Library" / "Logs" / service.NAME / "hub.log")
    return str(config.log_file or f"`journalctl --user -u {service.NAME}`")
