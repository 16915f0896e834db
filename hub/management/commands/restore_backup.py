"""`manage.py restore_backup BACKUP`: a hub out of a backup, in an empty place."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from hub.backups import restoring
from hub.backups.restoring import Restored
from hub.config import config
from registry.commands import typed
from registry.management.hub_command import Bar, HubCommand
from registry.storage import paths
from registry.storage.sizes import human


class Command(HubCommand):
    help = (
        "Restore a backup into the empty storage folder of this hub, or another one; every byte is "
        "verified first. (To take a version out of the archive, use restore.)"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("backup", type=Path, help="one backup: …/hub-20261130T120000Z")
        parser.add_argument(
            "--to", type=Path, metavar="FOLDER", help="an empty folder; default: HUB_STORAGE"
        )
        parser.add_argument(
            "--database",
            default=None,
            metavar="URL",
            help="an empty database for the rows; default: HUB_DATABASE_URL, with --to SQLite in "
            "that folder",
        )
        parser.add_argument(
            "--check",
            action="store_true",
            help="only try: restore into a folder that is removed again",
        )

    def handle(
        self,
        *args: Any,
        backup: Path,
        to: Path | None,
        database: str | None,
        check: bool,
        **options: Any,
    ) -> None:
        with Bar(self.stdout) as bar:
            if check:
                with restoring.drilled(backup, bar) as restored:
                    pass
            else:
                storage = to.expanduser().absolute() if to else paths.root()
                url = database if database is not None else "" if to else config.database_url
                restored = restoring.restore(backup, storage, url, bar)
        self._tell(restored, check=check)
        if to and not check:
            self.stdout.write(f"Start it with HUB_STORAGE={restored.storage} {typed('up')}.")

    def _tell(self, restored: Restored, *, check: bool) -> None:
        for sentence in restored.missing:
            self.stderr.write(self.style.WARNING(f"Not in the backup: {sentence}"))
        counts = (
            f"{restored.models:,} models, {restored.versions:,} versions, {restored.datasets:,} data "
            f"sets; {restored.files:,} files, {human(restored.size_bytes)}"
        )
        where = "This backup can be restored" if check else f"Restored to {restored.storage}"
        self.stdout.write(self.style.SUCCESS(f"{where}: {counts}."))
