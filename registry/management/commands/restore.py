"""`manage.py restore NAME[@VERSION]`: bring a version, or a whole model, back."""

from __future__ import annotations

from registry.maintenance.archive import restore_version
from registry.maintenance.removal import Removal, unarchive_model
from registry.management.moving import MoveCommand
from registry.models import Model, ModelVersion


class Command(MoveCommand):
    help = (
        "Bring an archived version back; NAME alone restores an archived model with the versions "
        "that were archived with it."
    )
    done = "restored"

    def move_version(self, version: ModelVersion) -> ModelVersion:
        return restore_version(version)

    def move_model(self, model: Model) -> Removal:
        return unarchive_model(model)
