"""`manage.py verify_backup BACKUP`: reads every byte of a backup."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from hub.backups import folder
from registry.errors import Damaged
from registry.management.hub_command import HubCommand
from registry.storage.sizes import human


class Command(HubCommand):
    help = "Read every byte of a backup and compare it with what was recorded."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("backup", type=Path, help="one backup: …/hub-20261130T120000Z")

    def handle(self, *args: Any, backup: Path, **options: Any) -> None:
        if problems := folder.verify(backup):
            for problem in problems:
                self.stderr.write(problem)
            raise Damaged(f"{backup.name} is damaged ({len(problems)} problems); use another one.")
        found = folder.read(backup)
        for sentence in found.missing:
            self.stderr.write(self.style.WARNING(f"Not in the backup: {sentence}"))
        self.stdout.write(
            f"{backup.name} is sound: {len(found.files):,} files, {human(found.size_bytes)}."
        )
