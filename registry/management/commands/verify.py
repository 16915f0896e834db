"""`manage.py verify [NAME[@VERSION]] [--all]`: read every byte and list what is damaged."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from registry.maintenance.verification import verify_all
from registry.management.hub_command import HubCommand


class Command(HubCommand):
    help = "Re-hash the files of versions and name each one that is damaged or missing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "name", nargs="?", default="", metavar="NAME[@VERSION]", help="default: every version"
        )
        parser.add_argument(
            "--all", action="store_true", help="also read base models and data sets"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        checked = damaged = 0
        for one in verify_all(options["name"], everything=options["all"]):
            checked += 1
            damaged += bool(one.problems)
            self.stdout.write(f"{one.name}: {'DAMAGED' if one.problems else 'sound'}")
            for problem in one.problems:
                self.stdout.write(f"  {one.path}: {problem}")
        if damaged:
            raise CommandError(f"{damaged} of {checked} damaged.", returncode=1)
        self.stdout.write(f"{checked} checked, none damaged.")
