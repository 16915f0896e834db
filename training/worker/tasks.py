"""What the worker does when the doorbell rings, every minute, and when it starts."""

from __future__ import annotations

from django.db import close_old_connections
from huey import crontab
from huey.contrib.djhuey import db_periodic_task, on_startup

from training.queue import doorbell
from training.worker import reaper, supervisor

doorbell.answer(supervisor.drain)


@db_periodic_task(crontab(), expires=50)  # type: ignore[untyped-decorator]
def tick() -> None:
    """Every minute: what a lost ring, a back-off or a dead worker has left behind."""
    reaper.reap()
    supervisor.drain()


@on_startup()  # type: ignore[untyped-decorator]
def look_at_the_queue() -> None:
    """When the worker starts: take back the jobs of dead processes, then begin."""
    close_old_connections()
    reaper.reap(grace_s=0.0)
    doorbell.doorbell()
