"""A used hub that is made once and then put back: its rows and files take a fifth of the time to copy
that they take to make."""

from __future__ import annotations

import datetime
import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from django.apps import apps
from django.db import connection, models, transaction

from registry.storage import paths
from tests.pages.seed import Seeded, seed

_APPS = ("hub", "registry", "training", "inference")


@dataclass
class Kept:
    """What `seed` made in an empty hub. `rows` are those of each table, after the names of its columns."""

    seeded: Seeded
    home: Path
    files: Path
    made: datetime.datetime
    rows: dict[str, tuple[list[str], list[tuple[Any, ...]]]]

    @classmethod
    def make(cls, home: Path, files: Path) -> Kept:
        """`home` holds storage and gets the sources; both are copied to `files`."""
        before = _rows()
        seeded = seed(home / "sources", samples=4)
        made = datetime.datetime.now(datetime.UTC)
        rows = {table: found for table, found in _rows().items() if table not in before}
        for name, folder in _folders(home).items():
            shutil.copytree(folder, files / name)
        return cls(seeded, home, files, made, rows)

    def put_back(self, home: Path) -> Seeded:
        """The same hub, as if it had been made now and there."""
        later = datetime.datetime.now(datetime.UTC) - self.made
        for name, folder in _folders(home).items():
            shutil.copytree(self.files / name, folder, dirs_exist_ok=True)

        def moved(value: Any) -> Any:
            if isinstance(value, datetime.datetime):
                shifted = value + later
                return str(shifted) if connection.vendor == "sqlite" else shifted
            return value.replace(str(self.home), str(home)) if isinstance(value, str) else value

        with transaction.atomic(), connection.cursor() as cursor:
            for table, (columns, rows) in self.rows.items():
                named = ", ".join(f'"{column}"' for column in columns)
                marks = ", ".join(["%s"] * len(columns))
                values = [[moved(value) for value in row] for row in rows]
                cursor.executemany(f'INSERT INTO "{table}" ({named}) VALUES ({marks})', values)
        return replace(
            self.seeded, **{f.name: _again(getattr(self.seeded, f.name)) for f in fields(Seeded)}
        )


def _folders(home: Path) -> dict[str, Path]:
    return {"storage": paths.root(), "sources": home / "sources"}


def _rows() -> dict[str, tuple[list[str], list[tuple[Any, ...]]]]:
    """The rows of every table of the hub's own that has any."""
    found = {}
    tables = [m._meta.db_table for a in _APPS for m in apps.get_app_config(a).get_models(True)]
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f'SELECT * FROM "{table}"')
            columns = [column[0] for column in cursor.description]
            if rows := cursor.fetchall():
                found[table] = columns, rows
    return found


def _again(value: Any) -> Any:
    """Rows as the database has them, instead of those that an earlier test may have changed."""
    if isinstance(value, list):
        return [_again(one) for one in value]
    return (
        type(value)._default_manager.get(pk=value.pk) if isinstance(value, models.Model) else value
    )
