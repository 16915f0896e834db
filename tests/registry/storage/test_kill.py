"""`kill -9` while versions are made, completed, archived, restored and taken out of bundles."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.conf import settings
from django.db import connection

from tests.registry.moving import WORK
from tests.running import often

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("unmeasured_children"),
]

# What a database decides here, transactions, shows after fewer; the files are the same.
ATTEMPTS = {"sqlite": often(12, 40), "postgresql": often(8, 15)}
KILLS = {"sqlite": often(50, 200), "postgresql": often(40, 60)}


def database_url() -> str:
    """The test's database, for another process."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}"))


def run(module: str, times: int, seed: int, storage: Path) -> Any:
    """What the process that kills has to report."""
    connection.close()
    done = subprocess.run(
        [sys.executable, "-m", f"tests.registry.{module}", str(times), str(seed)],
        cwd=settings.BASE_DIR,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "hub.settings",
            "HUB_STORAGE": str(storage),
            "HUB_BACKEND": "fake",
            "DATABASE_URL": database_url(),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def test_a_version_is_ready_and_sound_or_its_completion_can_be_repeated(storage: Path) -> None:
    seed = random.randrange(10**6)
    undisturbed, *attempts = run("completing", ATTEMPTS[connection.vendor], seed, storage)
    assert undisturbed["left"] == {"status": "ready", "problems": []}, undisturbed
    assert all(a["killed"] for a in attempts)
    assert {a["left"]["status"] for a in attempts} <= {"training", "ready"}
    for one in attempts:
        assert one["left"]["problems"] == [], (seed, one)
        assert one["after"] == {"status": "ready", "problems": []}, (seed, one)
        assert not one["staging_left"], (seed, one)


def test_every_row_has_sound_files_and_every_file_a_row_or_a_line_in_gc(storage: Path) -> None:
    seed = random.randrange(10**6)
    kills = KILLS[connection.vendor]
    report = run("moving", kills, seed, storage)
    assert report["problems"] == [], (seed, report)
    assert sum(report["amid"].values()) == kills
    assert "" not in report["amid"], (seed, report)  # nothing but the kills ended a worker
    # Else the kills met nothing worth testing.
    assert all(report["amid"].get(what, 0) > 0 for what in WORK), (seed, report)
    made = report["versions"].get("ready", 0) + report["versions"].get("archived", 0)
    assert made > 6 + report["imported"] > 6, (seed, report)  # made, not only moved
