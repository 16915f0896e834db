"""A database's tables as this release wants them; in an empty SQLite file in one step."""

from __future__ import annotations

from collections.abc import Iterable

from django.apps import apps
from django.core.management import call_command
from django.core.management.sql import emit_post_migrate_signal
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder


def bring_up_to_date(
    alias: str, applied: set[tuple[str, str]], known: set[tuple[str, str]]
) -> None:
    """Apply those of the `known` migrations, app and name of each, that are not `applied`."""
    if not applied and connections[alias].vendor == "sqlite":
        make_tables(alias, known)
    elif known - applied:
        call_command("migrate", database=alias, interactive=False, verbosity=0)


def make_tables(alias: str, migrations: Iterable[tuple[str, str]]) -> None:
    """Make all tables and what `migrate` puts into them (content types and permissions), and record
    `migrations`, app and name of each, as applied: all of it or nothing. To repeat each of them takes
    longer than the rest of a hub's first start. On PostgreSQL what was renamed has older names within."""
    with connections[alias].schema_editor() as editor:
        for model in apps.get_models():
            if model._meta.managed and not model._meta.proxy:
                editor.create_model(model)
        recorder = MigrationRecorder(connections[alias])
        editor.create_model(recorder.Migration)
        for app, name in sorted(migrations):
            recorder.migration_qs.create(app=app, name=name)
        emit_post_migrate_signal(verbosity=0, interactive=False, db=alias)
