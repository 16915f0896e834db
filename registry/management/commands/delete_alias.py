"""`manage.py delete_alias calendar staging`"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from registry.catalog.registration import find_model
from registry.management.hub_command import HubCommand
from registry.promotion.aliases import delete_alias
from registry.web.actor import COMMAND_LINE


class Command(HubCommand):
    help = "Delete an alias; its history stays, and `rollback_alias` restores it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model", help="name of the model")
        parser.add_argument("alias", help="the alias, such as staging")
        parser.add_argument("--reason", default="", help="why; kept in the history")

    def handle(self, *args: Any, model: str, alias: str, reason: str, **options: Any) -> None:
        found = find_model(model)
        delete_alias(found, alias, by=COMMAND_LINE, reason=reason)
        self.stdout.write(f"{found}@{alias} is deleted.")
