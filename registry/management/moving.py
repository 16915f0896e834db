"""What `manage.py archive` and `manage.py restore` have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from django.core.management.base import CommandError, CommandParser

from registry.catalog.registration import find_model
from registry.maintenance.removal import Removal
from registry.maintenance.verification import find_stored
from registry.management.hub_command import HubCommand
from registry.models import Model, ModelVersion


class MoveCommand(HubCommand):
    """Moves one version, or a model with the versions that go with it."""

    done: str  # what has become of what was named, as a person reads it

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME[@VERSION]")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"]
        if "@" in name:
            (version,) = find_stored(name)
            self.move_version(version)
            self.stdout.write(f"{version} is {self.done}, in storage/{version.artifact_path}.")
            return
        removal = self.move_model(find_model(name))
        self.stdout.write(f"{removal.name} is {self.done}.")
        if removal.kept_active:
            raise CommandError(" ".join(removal.kept_active))

    @abstractmethod
    def move_version(self, version: ModelVersion) -> ModelVersion: ...

    @abstractmethod
    def move_model(self, model: Model) -> Removal: ...
