"""`manage.py import-bundle FILE`: take a version that another hub exported."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from registry.bundles.reader import import_bundle
from registry.management.hub_command import Bar, HubCommand


class Command(HubCommand):
    help = "Verify a bundle and make its version here."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, metavar="FILE")
        parser.add_argument("--model", default="", metavar="NAME", help="default: as it was there")
        parser.add_argument(
            "--base", default="", metavar="NAME", help="a base of the same shape to attach it to"
        )
        parser.add_argument(
            "--number", default="", help="of the version here, such as 1.0.0; default: its own"
        )

    def handle(self, *args: Any, file: Path, model: str, base: str, **options: Any) -> None:
        try:
            with Bar(self.stderr) as bar:
                version = import_bundle(file, model, base, options["number"], bar)
        except OSError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{version} is ready.")
