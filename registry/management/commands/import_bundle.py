"""`manage.py import-bundle FILE`: take a version that another hub exported."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, OutputWrapper

from registry.bundles.reader import import_bundle
from registry.errors import HubError


class Command(BaseCommand):
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
            version = import_bundle(file, model, base, options["number"], _Bar(self.stderr))
        except (HubError, OSError) as error:
            raise CommandError(str(error)) from None
        finally:
            if self.stderr.isatty():
                self.stderr.write("\r\033[K", ending="")
        self.stdout.write(f"{version} is ready.")


class _Bar:
    """Shows on a terminal how far the import is."""

    def __init__(self, terminal: OutputWrapper) -> None:
        self.terminal, self.text, self.shown = terminal, "", -1

    def stage(self, text: str) -> None:
        self.text, self.shown = text, -1
        self.part(0.0)

    def part(self, share: float) -> None:
        percent = round(100 * share)
        if self.terminal.isatty() and percent != self.shown:
            bar = "#" * (percent * 30 // 100)
            self.terminal.write(f"\r{self.text:<22} [{bar:<30}] {percent:3}%", ending="")
            self.terminal.flush()
        self.shown = percent

    def beat(self) -> None:
        """Nobody waits for a sign of life."""
