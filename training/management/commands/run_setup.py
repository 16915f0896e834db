"""`manage.py run_setup ID`: the work of one setup; the web process starts it."""

from __future__ import annotations

from registry.management.hub_command import WorkCommand
from training.models import Setup
from training.queue import setup


class Command(WorkCommand[Setup]):
    help = (
        "Register what a person chose on the page Start, and queue its first job, as its row says."
    )
    model = Setup

    def do(self, row: Setup) -> object:
        return setup.run(row)
