"""`manage.py run_worker`: the Huey consumer that runs training jobs, one at a time."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from huey.consumer import Consumer
from huey.contrib.djhuey import HUEY

from training.worker import supervisor, tasks

_SHUTDOWN_S = 7.0  # beyond it the consumer leaves its thread, and with it the child, behind


class Worker(Consumer):  # type: ignore[misc]
    """A consumer that stops its training child gently, whichever signal ends it."""

    def stop(self, graceful: bool = False) -> None:
        supervisor.stop()
        super().stop(graceful=True)


class Command(BaseCommand):
    help = "Run queued training jobs; ends within 8 s on SIGTERM or Ctrl-C, the job goes on later."
    requires_system_checks = ()  # they load every page and schema; the web process makes them

    def handle(self, *args: Any, **options: Any) -> None:
        assert tasks.tick.huey is HUEY  # importing the tasks has registered them
        consumer: Any = settings.HUEY["consumer"]
        worker = Worker(HUEY, shutdown_timeout=_SHUTDOWN_S, **consumer)
        worker.run()
