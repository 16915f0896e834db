"""`manage.py write_notes NAME@VERSION TEXT`: a person's notes on a version."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from registry.management.hub_command import HubCommand
from registry.versions.comparison import find_version
from registry.versions.lifecycle import write_notes


class Command(HubCommand):
    help = "Replace the notes on a version; without TEXT they are shown."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME@VERSION")
        parser.add_argument("text", nargs="?", metavar="TEXT", help="empty to remove them")

    def handle(self, *args: Any, name: str, text: str | None, **options: Any) -> None:
        version = find_version(name)
        if text is not None:
            write_notes(version, text)
        shown = version.notes or "There are none."
        self.stdout.write(shown if text is None else f"The notes on {version} are kept.")
