"""`manage.py move_alias calendar production 0.2.0`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from registry.catalog.registration import find_model, find_version
from registry.management.hub_command import HubCommand
from registry.promotion.aliases import move_alias
from registry.web.actor import COMMAND_LINE


class Command(HubCommand):
    help = "Point an alias, such as production, at a version of a model."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model", help="name of the model")
        parser.add_argument("alias", help="the alias, such as production")
        parser.add_argument("to", metavar="version", help="the version, such as 0.2.0")
        parser.add_argument("--reason", default="", help="why; kept in the history")
        parser.add_argument(
            "--force", action="store_true", help="override promotion rules; recorded in the history"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        model = find_model(options["model"])
        version = find_version(model, options["to"])
        move = move_alias(
            model,
            options["alias"],
            version,
            by=COMMAND_LINE,
            reason=options["reason"],
            force=options["force"],
        )
        forced = ", overriding a promotion rule" if move.forced else ""
        self.stdout.write(f"{model}@{move.name} is now version {version.version}{forced}.")
