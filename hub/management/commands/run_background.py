"""`manage.py run_background`: the worker and the sampler in one process, as `up` starts them.

Both mostly wait, and what they hold is Django and the tables: together they take half the memory and
half the start of two processes.
"""

from __future__ import annotations

import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from hub.monitoring.sampler import Sampler
from hub.processes import belonging
from training.management.commands.run_worker import make_worker

_SAMPLER_S = 2.0  # for its running task to end


class Command(BaseCommand):
    help = "Run the training queue and the sampler in one process."
    requires_system_checks = ()  # they load every page and schema; CI runs them

    def handle(self, *args: Any, **options: Any) -> None:
        if problem := belonging.problem():
            raise CommandError(problem)
        connection.close()
        sampler = Sampler()
        sampling = threading.Thread(target=sampler.run, name="sampler", daemon=True)
        sampling.start()
        try:
            make_worker().run()
        finally:
            sampler.stop.set()
            sampling.join(_SAMPLER_S)
