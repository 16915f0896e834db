"""What every process of the hub does when it starts."""

from __future__ import annotations

import sys

from django.apps import AppConfig

from hub.logs import PROCESSES as PROCESSES
from hub.logs import process_name


class HubConfig(AppConfig):
    name = "hub"

    def ready(self) -> None:
        from hub import correlation, lifeline, presence, telemetry
        from hub.neighbours import Engine, Training
        from inference import neighbours as of_inference
        from training import neighbours as of_training

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
