"""A new hub's tables, made at once, are those of a hub that went through every migration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import ROOT, hub_environment, without_coverage

pytestmark = pytest.mark.any_database

MIGRATE = """
import django; django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
"""
ONE_BY_ONE = (
    """
from django.db.migrations.loader import MigrationLoader
load_all = MigrationLoader.load_disk
def load_old(self):
    load_all(self)
    for key in [key for key, found in self.disk_migrations.items() if found.replaces]:
        if key[0] in ("hub", "registry", "training", "inference"):
            del self.disk_migrations[key]
MigrationLoader.load_disk = load_old
"""
    + MIGRATE
)
DESCRIBE = """
import django, json; django.setup()
from django.db import connection
found = {}
with connection.cursor() as cursor:
    look = connection.introspection
    for table in look.table_names(cursor):
        columns = {c.name: [c.type_code, c.null_ok, str(c.default)]
                   for c in look.get_table_description(cursor, table)}
        rules = sorted(
            json.dumps(["" if name.startswith(("fk_", "__")) else name, rule], sort_keys=True, default=str)
            for name, rule in look.get_constraints(cursor, table).items())
        found[table] = [columns, rules]
print(json.dumps(found, sort_keys=True, default=str))
"""
NOTHING_LEFT = MIGRATE.replace("verbosity=0", "check_unapplied=True")


def run(storage: Path, code: str) -> str:
    environment = without_coverage(hub_environment(storage, DATABASE_URL=""))
    storage.mkdir(exist_ok=True)
    made = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**environment, "DJANGO_SETTINGS_MODULE": "hub.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    return made.stdout


def test_both_ways_end_in_the_same_tables(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    run(old, ONE_BY_ONE)
    run(new, MIGRATE)
    assert run(new, DESCRIBE) == run(old, DESCRIBE)
    run(old, NOTHING_LEFT)
