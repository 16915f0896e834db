"""`manage.py run_replay ID`: what the web process starts for a replay asked for on a page."""

from __future__ import annotations

import asyncio
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from inference import replay
from inference.models import Replay
from registry.errors import HubError


class Command(BaseCommand):
    help = "Run a planned replay; the web process starts this itself."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int)

    def handle(self, *args: Any, **options: Any) -> None:
        found = Replay.objects.select_related("target__model").get(pk=options["id"])
        try:
            asyncio.run(replay.run(found))
        except HubError as error:
            raise CommandError(str(error)) from error
