"""`manage.py restore NAME[@VERSION]`: bring a version, or a whole model, back."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from registry.archive import restore_version
from registry.errors import HubError
from registry.removal import unarchive_model
from registry.verification import find_model, find_stored


class Command(BaseCommand):
    help = "Bring an archived version back; NAME alone restores an archived model with all of them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME[@VERSION]")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"]
        try:
            if "@" in name:
                (version,) = find_stored(name)
                restore_version(version)
                self.stdout.write(f"{version} is ready in storage/{version.artifact_path}.")
                return
            removal = unarchive_model(find_model(name))
        except HubError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{removal.name} is restored.")
        if removal.kept_active:
            raise CommandError(" ".join(removal.kept_active))
