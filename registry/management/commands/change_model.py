"""`manage.py change_model NAME`: what may change of a model."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from registry.catalog.registration import find_model, update_model
from registry.management.hub_command import HubCommand
from registry.models import Model


class Command(HubCommand):
    help = "Change a model's description, task, tags or card notes; what is left out stays."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--task", dest="task_type", choices=Model.TaskType.values)
        parser.add_argument("--description")
        parser.add_argument("--tags", help="all of them, separated by commas; empty for none")
        parser.add_argument(
            "--card-notes", metavar="FILE", type=Path, help="your notes for the card, in Markdown"
        )

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        changes = {
            field: options[field]
            for field in ("task_type", "description")
            if options[field] is not None
        }
        if options["tags"] is not None:
            changes["tags"] = [tag for tag in options["tags"].split(",") if tag.strip()]
        if options["card_notes"] is not None:
            changes["card_notes"] = _text(options["card_notes"])
        if not changes:
            raise CommandError(
                "Give at least one change: --description, --task, --tags or --card-notes."
            )
        model = update_model(find_model(name), **changes)
        self.stdout.write(f"{model} is changed.")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read as text: {error}") from None
