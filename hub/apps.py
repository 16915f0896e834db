"""What every process of the hub does at startup."""

from __future__ import annotations

import sys

from django.apps import AppConfig

from hub.monitoring.logs import PROCESSES, process_name


class HubConfig(AppConfig):
    name = "hub"

    def ready(self) -> None:
        from hub.monitoring import correlation, telemetry
        from hub.processes import lifeline, presence
        from hub.processes.neighbours import Engine, Training
        from inference.engine.memory import neighbours as inference_neighbours
        from training.machine import neighbours as training_neighbours

        correlation.connect()
        lifeline.watch_parent()
        training_neighbours.register(Engine())
        inference_neighbours.register(Training())
        process = process_name(sys.argv)
        telemetry.start(process)
        if process in PROCESSES:
            try:
                presence.announce(process)
            except presence.AlreadyRunning as problem:
                raise SystemExit(str(problem)) from None
