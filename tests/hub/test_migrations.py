"""A new hub's tables, made at once, are those of a hub that went through every migration."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.running import ROOT, hub_environment, put_hub_store, without_coverage

pytestmark = pytest.mark.any_database

# One process for all of it: each would import the hub, and the state of all migrations.
ONE_BY_ONE = """
import django, functools, json, sqlparse, sys; django.setup()
from django.core.management import call_command
from django.db import connections
from django.db.migrations.loader import MigrationLoader

load_all = MigrationLoader.load_disk
def load_old(self):
    load_all(self)
    for key in [key for key, found in self.disk_migrations.items() if found.replaces]:
        if key[0] in ("hub", "registry", "training", "inference"):
            del self.disk_migrations[key]
MigrationLoader.load_disk = load_old
call_command("migrate", verbosity=0)
MigrationLoader.load_disk = load_all

sqlparse.parse = functools.cache(sqlparse.parse)  # by which SQLite's constraints are read, many times
def described(alias):
    found = {}
    with connections[alias].cursor() as cursor:
        look = connections[alias].introspection
        for table in look.table_names(cursor):
            columns = {c.name: [c.type_code, c.null_ok, str(c.default)]
                       for c in look.get_table_description(cursor, table)}
            rules = sorted(
                json.dumps(["" if name.startswith(("fk_", "__")) else name, rule], sort_keys=True, default=str)
                for name, rule in look.get_constraints(cursor, table).items())
            found[table] = [columns, rules]
    return found

connections.settings["new"] = {**connections.settings["default"], "NAME": sys.argv[1]}
print(json.dumps({"old": described("default"), "new": described("new")}, default=str))
call_command("migrate", verbosity=0, check_unapplied=True)
"""


def run(storage: Path, code: str, *arguments: str) -> str:
    environment = without_coverage(hub_environment(storage, DATABASE_URL=""))
    storage.mkdir(exist_ok=True)
    made = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**environment, "DJANGO_SETTINGS_MODULE": "hub.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    return made.stdout


def test_both_ways_end_in_the_same_tables(tmp_path: Path) -> None:
    new = tmp_path / "new.sqlite3"
    put_hub_store(new)  # made by `migrate`
    found: dict[str, Any] = json.loads(run(tmp_path / "old", ONE_BY_ONE, str(new)))
    assert len(found["old"]) > 30
    assert found["new"] == found["old"]
