"""`manage.py rollback_alias calendar production`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from registry.catalog.registration import find_model
from registry.management.hub_command import HubCommand
from registry.promotion.aliases import rollback_alias
from registry.web.actor import COMMAND_LINE


class Command(HubCommand):
    help = "Point an alias back at the version it had before its last move."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model", help="name of the model")
        parser.add_argument("alias", help="the alias, such as production")
        parser.add_argument("--reason", default="", help="why; kept in the history")

    def handle(self, *args: Any, **options: Any) -> None:
        model = find_model(options["model"])
        move = rollback_alias(model, options["alias"], by=COMMAND_LINE, reason=options["reason"])
        number = move.to_version.version if move.to_version else ""
        self.stdout.write(f"{model}@{move.name} is version {number} again.")
