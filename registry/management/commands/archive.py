"""`manage.py archive NAME[@VERSION]`: put a version, or a whole model, away."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from registry.archive import archive_version
from registry.errors import HubError
from registry.removal import remove_model
from registry.verification import find_model, find_stored


class Command(BaseCommand):
    help = "Move a version's files to the archive; NAME alone archives the model with all of them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME[@VERSION]")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"]
        try:
            if "@" in name:
                (version,) = find_stored(name)
                archive_version(version)
                self.stdout.write(f"{version} is archived in storage/{version.artifact_path}.")
                return
            model = find_model(name)
            if not model.versions.exists():
                raise CommandError(f"{model} has no version; there is nothing to archive.")
            removal = remove_model(model)
        except HubError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{removal.name} is archived.")
        if removal.kept_active:
            raise CommandError(" ".join(removal.kept_active))
