"""`manage.py register_model NAME`: a new line of fine-tunes."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from registry.bases.registration import find_base
from registry.catalog.registration import register_model
from registry.management.hub_command import HubCommand
from registry.models import Model


class Command(HubCommand):
    help = "Register a model on a base model, with its MLflow experiment."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--base", help="may be left out while the hub has only one")
        parser.add_argument("--task", default=Model.TaskType.CHAT, choices=Model.TaskType.values)
        parser.add_argument("--description", default="")
        parser.add_argument(
            "--tag", action="append", default=[], dest="tags", help="may be repeated"
        )

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        base = find_base(options["base"])
        model = register_model(name, base, options["task"], options["description"], options["tags"])
        self.stdout.write(f"{model} is registered on {base}.")
