"""`manage.py run_worker`: the Huey consumer that runs training jobs, one at a time."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from huey.consumer import Consumer
from huey.contrib.djhuey import HUEY

from training.worker import supervisor, tasks

_SHUTDOWN_S = 7.0  # after this the consumer abandons its thread, and with it the child


class Worker(Consumer):  # type: ignore[misc]
    """A consumer that stops its training child gracefully on every signal."""

    def stop(self, graceful: bool = False) -> None:
        supervisor.stop()
        super().stop(graceful=True)


def make_worker() -> Worker:
    """A worker for this process's main thread, which gets its signals."""
    assert tasks.tick.huey is HUEY  # importing the tasks registers them
    consumer: Any = settings.HUEY["consumer"]
    return Worker(HUEY, shutdown_timeout=_SHUTDOWN_S, **consumer)


class Command(BaseCommand):
    help = (
        "Run queued training jobs. Exits within 8 s on SIGTERM or Ctrl-C; the job continues later."
    )
    requires_system_checks = ()  # they load every page and schema; CI runs them

    def handle(self, *args: Any, **options: Any) -> None:
        make_worker().run()
