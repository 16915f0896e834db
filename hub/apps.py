"""What every process of the hub does at startup."""

from __future__ import annotations

import gc
import sys
from functools import cache

from django.apps import AppConfig, apps

from hub.monitoring.logs import process_name, roles


class HubConfig(AppConfig):
    name = "hub"

    def ready(self) -> None:
        if apps.is_installed("django_structlog"):  # where pages are
            from hub.monitoring import correlation

            correlation.connect()
        begin()


@cache
def begin() -> None:
    """Once in a process: the engine begins before Django's apps, which it may never need."""
    from hub.monitoring import telemetry
    from hub.processes import lifeline, presence
    from hub.processes.neighbours import Engine, Training
    from inference.engine.memory import neighbours as inference_neighbours
    from training.machine import neighbours as training_neighbours

    lifeline.watch_parent()
    training_neighbours.register(Engine())
    inference_neighbours.register(Training())
    if not gc.isenabled():  # see manage.py
        gc.freeze()
        gc.enable()
    process = process_name(sys.argv)
    telemetry.start(process)
    for role in roles(process):
        try:
            presence.announce(role)
        except presence.AlreadyRunning as problem:
            raise SystemExit(str(problem)) from None
