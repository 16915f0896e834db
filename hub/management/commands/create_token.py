"""`manage.py create_token NAME`: a key for the API, shown once."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from inference.models import ApiToken


class Command(BaseCommand):
    help = "Create an API token and print it. It is shown once; only its hash is stored."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="what the token is for")
        parser.add_argument(
            "--scope",
            choices=ApiToken.Scope.values,
            default=ApiToken.Scope.INFERENCE,
            help="inference: generate text; manage: also register and train; admin: also manage "
            "keys; default: %(default)s",
        )

    def handle(self, *args: Any, name: str, scope: str, **options: Any) -> None:
        if ApiToken.objects.filter(name=name).exists():
            raise CommandError(f"A token named {name!r} already exists; choose another name.")
        _, text = ApiToken.issue(name, ApiToken.Scope(scope))
        self.stdout.write(text)
