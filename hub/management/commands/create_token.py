"""`manage.py create_token NAME`: a key for the API, shown once."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from inference.models import ApiToken


class Command(BaseCommand):
    help = "Make an API token and print it; only its hash is kept."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="what or whom it is for")
        parser.add_argument(
            "--scope",
            choices=ApiToken.Scope.values,
            default=ApiToken.Scope.INFERENCE,
            help="inference generates text, manage also registers and trains, admin also makes "
            "keys; default: %(default)s",
        )

    def handle(self, *args: Any, name: str, scope: str, **options: Any) -> None:
        if ApiToken.objects.filter(name=name).exists():
            raise CommandError(f"There is a token {name!r} already; choose another name.")
        _, text = ApiToken.issue(name, ApiToken.Scope(scope))
        self.stdout.write(text)
