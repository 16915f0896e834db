"""`manage.py archive NAME[@VERSION]`: put a version, or a whole model, away."""

from __future__ import annotations

from django.core.management.base import CommandError

from registry.archive import archive_version
from registry.management.moving import MoveCommand
from registry.models import Model, ModelVersion
from registry.removal import Removal, remove_model


class Command(MoveCommand):
    help = "Move a version's files to the archive; NAME alone archives the model with all of them."
    done = "archived"

    def move_version(self, version: ModelVersion) -> ModelVersion:
        return archive_version(version)

    def move_model(self, model: Model) -> Removal:
        if not model.versions.exists():  # it would be deleted
            raise CommandError(f"{model} has no version; there is nothing to archive.")
        return remove_model(model)
