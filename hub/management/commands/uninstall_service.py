"""`manage.py uninstall-service`: undoes `install-service`."""

from __future__ import annotations

import subprocess
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from hub.config import config
from hub.processes import service


class Command(BaseCommand):
    help = "Stop the service that install-service made and remove it; storage stays."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            removed = service.uninstall()
        except (OSError, subprocess.CalledProcessError) as error:
            raise CommandError(f"{service.place()} could not be removed: {error}") from None
        if not removed:
            raise CommandError(f"There is no service: {service.place()} does not exist.")
        self.stdout.write(f"The service is gone. {config.storage} is as it was.")
