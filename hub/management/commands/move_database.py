"""`manage.py move_database --to URL`: the rows of the hub, from SQLite to PostgreSQL or back."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.db import connection

from hub.backups import moving
from registry.management.hub_command import Bar, HubCommand


class Command(HubCommand):
    help = (
        "Copy every row of the stopped hub's database into an empty one and compare them: "
        "from SQLite to PostgreSQL or back. The database it comes from stays as it is."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--to",
            required=True,
            metavar="URL",
            help="postgres://user:password@host:port/name, sqlite:///PATH, or sqlite for "
            "hub.sqlite3 in the storage folder",
        )

    def handle(self, *args: Any, to: str, **options: Any) -> None:
        source = connection.display_name
        with Bar(self.stdout) as bar:
            moved = moving.move(to, bar)
        for table in moved.tables:
            if table.rows:
                self.stdout.write(f"{table.rows:>10,}  {table.name}")
        self.stdout.write(
            self.style.SUCCESS(
                f"{sum(table.rows for table in moved.tables):,} rows are in {moved.kind}, each as "
                f"it is in {source}."
            )
        )
        self.stdout.write(moved.next_step)
