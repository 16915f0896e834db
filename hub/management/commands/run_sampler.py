"""`manage.py run_sampler`: samples, recovery of dead jobs, MLflow's outbox, retention."""

from __future__ import annotations

import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from hub.monitoring.sampler import Sampler
from hub.processes import belonging


class Command(BaseCommand):
    help = "Sample the machine, recover dead jobs, update MLflow, delete old rows."
    requires_system_checks = ()  # they load every page and schema; CI runs them

    def handle(self, *args: Any, **options: Any) -> None:
        if problem := belonging.problem():
            raise CommandError(problem)
        sampler = Sampler()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: sampler.stop.set())
        sampler.run()
