"""Huey's part: a doorbell. It loses the message of a task whose consumer is killed, so a message
says only "look at the queue", and whoever hears it drains the queue that the database holds.
"""

from __future__ import annotations

import structlog
from django.db import close_old_connections
from huey import crontab
from huey.contrib.djhuey import db_periodic_task, db_task, on_startup

from training import reaper, supervisor

log = structlog.get_logger(__name__)


@db_task()  # type: ignore[untyped-decorator]
def doorbell() -> None:
    """Run the jobs that are due, one after another."""
    supervisor.drain()


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
    doorbell()
