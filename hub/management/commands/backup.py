"""`manage.py backup FOLDER`: everything of this hub, while it runs."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from hub.backups import making
from hub.config import config
from registry.management.hub_command import Bar, HubCommand
from registry.storage.sizes import human


class Command(HubCommand):
    help = (
        "Back up the database, the files that its rows name and MLflow's own store, while the hub "
        "runs. Files that did not change are linked to the backup before."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "folder", nargs="?", type=Path, help="where backups are kept; default: HUB_BACKUP_DIR"
        )
        parser.add_argument(
            "--keep", type=int, metavar="N", help="then remove all but the newest N backups"
        )

    def handle(self, *args: Any, folder: Path | None, keep: int | None, **options: Any) -> None:
        place = folder or config.backup_dir
        if place is None:
            raise CommandError("Name a folder for the backup, or set HUB_BACKUP_DIR.")
        with Bar(self.stdout) as bar:
            made = making.make(place, keep, bar)
        backup = made.backup
        for sentence in backup.missing:
            self.stderr.write(self.style.WARNING(sentence))
        self.stdout.write(
            f"{backup.path}: {len(backup.files):,} files, {human(backup.size_bytes)}; "
            f"{human(made.copied_bytes)} copied, {made.linked:,} files linked."
        )
        for path in made.removed:
            self.stdout.write(f"{path.name} removed.")
