"""`manage.py create_token NAME`: a key for the API, shown once."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from inference.keys import issue_key
from inference.models import ApiToken
from registry.management.hub_command import HubCommand


class Command(HubCommand):
    help = "Create an API key and print it; only its hash is kept."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="what or whom the key is for")
        parser.add_argument(
            "--scope",
            choices=ApiToken.Scope.values,
            default=ApiToken.Scope.INFERENCE,
            help="inference generates text, manage also registers and trains, admin also creates "
            "keys; default: %(default)s",
        )

    def handle(self, *args: Any, name: str, scope: str, **options: Any) -> None:
        _, text = issue_key(name, scope)
        self.stdout.write(text)
