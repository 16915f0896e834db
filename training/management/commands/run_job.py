"""`manage.py run_job ID --lease L`: the child process of one training job."""

from __future__ import annotations

import os
import signal
import uuid
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandParser

from registry import traces
from training.attempt import runner
from training.machine import processes
from training.models import LeaseLost
from training.queue.outage import ride_out

_NICENESS = 10  # the engine and the pages come first

log = structlog.get_logger(__name__)


class Command(BaseCommand):
    help = "Run one attempt of a training job that the worker has claimed (started by the worker)."
    requires_system_checks = ()  # they load every page and schema; CI runs them

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("job", type=int)
        parser.add_argument("--lease", type=uuid.UUID, required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        os.nice(_NICENESS)
        signals: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: signals.append(number))

        def stop_reason() -> str:
            if signals:
                return "The worker was stopped; the job continues when it is back."
            if runner.orphaned():
                return "The worker died; the job continues when it is back."
            return ""

        try:
            ride_out(lambda: processes.announce(options["job"], options["lease"]))
            with traces.span("attempt", parent=traces.inherited()):
                runner.run(options["job"], options["lease"], stop_reason)
        except LeaseLost as lost:
            log.warning("lease lost, outcome not recorded", reason=str(lost))
