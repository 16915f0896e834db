"""What the worker does when it is woken, every minute, and when it starts."""

from __future__ import annotations

from django.db import close_old_connections
from huey import crontab
from huey.contrib.djhuey import db_periodic_task, on_startup

from training.queue import doorbell
from training.worker import reaper, supervisor

doorbell.listen(supervisor.drain)


@db_periodic_task(crontab(), expires=50)  # type: ignore[untyped-decorator]
def tick() -> None:
    """Every minute: run what a lost wake-up, a back-off or a dead worker left in the queue."""
    reaper.reap()
    supervisor.drain()


@on_startup()  # type: ignore[untyped-decorator]
def check_queue() -> None:
    """When the worker starts: recover the jobs of dead processes, then run what is due."""
    close_old_connections()
    reaper.reap(grace_s=0.0)
    doorbell.doorbell()
