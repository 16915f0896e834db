"""`manage.py run_bundle_import ID`: the work of one task; the web process starts it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from registry.bundles import tasks
from registry.errors import HubError
from registry.models import BundleImport


class Command(BaseCommand):
    help = "Verify and take a large bundle, as its task's row says."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("task", type=int, metavar="ID")

    def handle(self, *args: Any, task: int, **options: Any) -> None:
        try:
            version = tasks.run(BundleImport.objects.get(pk=task))
        except (HubError, BundleImport.DoesNotExist) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{version} is ready.")
