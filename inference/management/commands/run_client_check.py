"""`manage.py run_client_check ID`: what the web process starts for a check asked for on a page."""

from __future__ import annotations

from inference.clients import checks
from inference.models import ClientCheck
from registry.management.hub_command import WorkCommand


class Command(WorkCommand[ClientCheck]):
    help = "Run a planned check of clients; the web process starts this itself."
    model = ClientCheck

    def do(self, row: ClientCheck) -> object:
        return checks.run(row)
