"""`manage.py remove_model NAME`: archive a model, or delete it for good."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from registry.catalog.registration import find_model
from registry.maintenance.removal import remove_model
from registry.management.hub_command import HubCommand


class Command(HubCommand):
    help = "Archive a model that has versions, or delete one that has none."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument(
            "--force",
            metavar="NAME",
            help="the name once more: delete its versions, jobs and files, too",
        )

    def handle(self, *args: Any, name: str, force: str | None, **options: Any) -> None:
        removal = remove_model(find_model(name), force)
        self.stdout.write(f"{removal.name} is {removal.outcome}.")
        if removal.kept_active:
            raise CommandError(" ".join(removal.kept_active))
