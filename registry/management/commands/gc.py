"""`manage.py gc [--dry-run]`: remove from storage what no row names."""

from __future__ import annotations

import datetime
from typing import Any

from django.core.management.base import CommandError, CommandParser

from registry.maintenance import gc
from registry.management.hub_command import HubCommand
from registry.models.bases import RESUMABLE
from registry.storage.sizes import human


class Command(HubCommand):
    help = "Finish interrupted moves and remove staging leftovers and files that no row names."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only list them")
        parser.add_argument(
            "--older-than",
            type=float,
            default=gc.AGE.total_seconds() / 3600,
            metavar="HOURS",
            help="keep what was changed since (default: %(default)g); 0 only while the hub is idle. "
            f"An interrupted download is kept for at least {RESUMABLE.days} days.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not 0 <= options["older_than"] < 1e6:
            raise CommandError("--older-than takes a number of hours, 0 or more.")
        age = datetime.timedelta(hours=options["older_than"])
        found = gc.leftovers(age) if options["dry_run"] else gc.sweep(age)
        for one in found:
            self._write(one)
        total = human(sum(one.size_bytes for one in found))
        verb = "would be removed" if options["dry_run"] else "removed"
        self.stdout.write(f"{len(found)} {verb}, {total}.")
        if kept := gc.resumable():
            self.stdout.write(f"{len(kept)} kept, {human(sum(one.size_bytes for one in kept))}:")
        for one in kept:
            self._write(one)

    def _write(self, one: gc.Leftover) -> None:
        until = f", until {one.kept_until:%Y-%m-%d %H:%M} UTC" if one.kept_until else ""
        self.stdout.write(f"{human(one.size_bytes):>10}  {one.path}  ({one.reason}{until})")
