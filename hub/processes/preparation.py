"""The database as this release wants it, before anybody works on it.

`up` knows no tables. The web process, which it starts first, prepares the database and reports to it through
a pipe how that went (see `hub.processes.lifeline`).
"""

from __future__ import annotations

import pkgutil
from importlib.util import find_spec

from django.apps import apps
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from hub.config import Config
from hub.processes import belonging, exposure, upgrades
from hub.sqlite.tables import bring_up_to_date
from registry.storage import paths

OURS = ("hub", "registry", "training", "inference")
"""The apps whose migrations are the hub's own."""


def prepare(config: Config) -> str | None:
    """Apply the migrations that are missing, after a copy of a database that has some is kept. Returns
    why the hub must not start, or None. Raises DatabaseError."""
    try:
        applied, known = _applied(), on_disk()
        ours = {migration for migration in applied if migration[0] in OURS}
        if newer := upgrades.unknown(ours, known):
            return newer
        if known - applied:
            if ours and (no_copy := upgrades.keep_copy()):
                return no_copy
            bring_up_to_date(connection.alias, applied, known)
        paths.close_to_others()  # the database may be new
        return exposure.problem(config) or belonging.problem()
    finally:
        connection.close()


def missing() -> set[tuple[str, str]]:
    """App and name of each migration that was not applied. Goes by names alone: `migrate` imports all
    of them, orders them and rebuilds every table's state, a second of each start for nothing."""
    return on_disk() - _applied()


def _applied() -> set[tuple[str, str]]:
    return set(MigrationRecorder(connection).applied_migrations())


def on_disk() -> set[tuple[str, str]]:
    """App and name of each migration of this release."""
    return {(app.label, name) for app in apps.get_app_configs() for name in _names(app.label)}


def _names(app: str) -> list[str]:
    """The migrations of an app, as `MigrationLoader` finds them."""
    module, _ = MigrationLoader.migrations_module(app)
    spec = find_spec(module) if module else None
    places = (spec.submodule_search_locations if spec else None) or []
    return [
        found.name
        for found in pkgutil.iter_modules(places)
        if not found.ispkg and found.name[0] not in "_~"
    ]
