"""What every process of the hub does when it starts."""

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
        from inference.engine.memory import neighbours as of_inference
        from training.machine import neighbours as of_training

        correlation.connect()
        lifeline.hold_on()
        of_training.register(Engine())
        of_inference.register(Training())
        process = process_name(sys.argv)
        telemetry.start(process)
        if process in PROCESSES:
            try:
                presence.announce(process)
            except presence.AlreadyRunning as problem:
                raise SystemExit(str(problem)) from None
