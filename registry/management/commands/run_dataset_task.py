"""`manage.py run_dataset_task ID`: the work of one task; the web process starts it."""

from __future__ import annotations

from registry.datasets import tasks
from registry.management.hub_command import WorkCommand
from registry.models import DatasetTask


class Command(WorkCommand[DatasetTask]):
    help = "Register or examine a large data set, as its task's row says."
    model = DatasetTask

    def do(self, row: DatasetTask) -> object:
        return tasks.run(row)
