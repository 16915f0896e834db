"""`manage.py run_dataset_task ID`: the work of one task; the web process starts it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from registry.datasets import tasks
from registry.errors import HubError
from registry.models import DatasetTask


class Command(BaseCommand):
    help = "Register or examine a large data set, as its task's row says."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("task", type=int, metavar="ID")

    def handle(self, *args: Any, task: int, **options: Any) -> None:
        try:
            made = tasks.run(DatasetTask.objects.select_related("dataset").get(pk=task))
        except (HubError, DatasetTask.DoesNotExist) as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{made} is done.")
