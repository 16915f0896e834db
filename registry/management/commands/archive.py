"""`manage.py archive NAME[@VERSION]`: archive a version, or a whole model."""

from __future__ import annotations

from registry.maintenance.archive import archive_version
from registry.maintenance.removal import Removal, archive_model
from registry.management.moving import MoveCommand
from registry.models import Model, ModelVersion


class Command(MoveCommand):
    help = "Move a version's files to the archive; NAME alone archives the model with all of them."
    done = "archived"

    def move_version(self, version: ModelVersion) -> ModelVersion:
        return archive_version(version)

    def move_model(self, model: Model) -> Removal:
        return archive_model(model)
