"""`manage.py run_replay ID`: what the web process starts for a replay asked for on a page."""

from __future__ import annotations

from inference import replay
from inference.models import Replay
from registry.management.hub_command import WorkCommand


class Command(WorkCommand[Replay]):
    help = "Run a planned replay; the web process starts this itself."
    model = Replay

    def do(self, row: Replay) -> object:
        return replay.run(row)
