"""`manage.py reproduce NAME@VERSION`: trains a version again and compares the weights."""

from __future__ import annotations

import sys
import time
from typing import Any

from django.core.management.base import CommandError, CommandParser

from registry.commands import typed
from registry.management.hub_command import HubCommand
from registry.versions.comparison import find_version
from training.attempt import reproduction
from training.models import TrainingJob

_POLL_S = 0.5
_REFUSED = 2


class Command(HubCommand):
    refused = _REFUSED
    help = (
        "Queue a job that trains a version again from its lineage, and compare the weights. Exits "
        "with 0 when they are bit-exact or close, 1 when they diverged, 2 when there is no result."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("version", metavar="NAME@VERSION", help="or NAME@alias")
        parser.add_argument(
            "--no-wait",
            action="store_true",
            help="queue the job and exit; see the result on the version's page",
        )

    def handle(self, *args: Any, version: str, no_wait: bool, **options: Any) -> None:
        job = reproduction.enqueue(find_version(version))
        self.stdout.write(f"Job {job.pk} trains {job.reproduces} again.")
        if no_wait:
            return
        try:
            self._wait(job)
        except KeyboardInterrupt:
            self.stdout.write(f"Job {job.pk} continues; see the result on the version's page.")
            sys.exit(_REFUSED)
        if job.status != TrainingJob.Status.COMPLETED or job.reproduces is None:
            reason = job.error_message or f"Job {job.pk} is {job.status}."
            raise CommandError(reason, returncode=_REFUSED)
        job.reproduces.refresh_from_db()
        found = job.reproduces.reproduction
        for line in reproduction.described(found):
            self.stdout.write(line)
        if found["verdict"] == "diverged":
            sys.exit(1)

    def _wait(self, job: TrainingJob) -> None:
        """Wait until the job has finished; print a line whenever its progress changes."""
        printed = ""
        while not job.is_over:
            waiting = f"waiting for the worker, which `{typed('up')}` starts"
            line = f"{job.status}: {job.stage or job.wait_reason or waiting}"
            if job.iteration:
                line = f"{job.stage or job.status}, step {job.iteration}"
            if line != printed:
                self.stdout.write(line)
                self.stdout.flush()
                printed = line
            time.sleep(_POLL_S)
            job.refresh_from_db()
