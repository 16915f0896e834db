"""`kill -9` while a version is completed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.conf import settings
from django.db import connection

pytestmark = pytest.mark.django_db(transaction=True)

ATTEMPTS = 40


def database_url() -> str:
    """The test's database, for another process."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}"))


def test_a_version_is_ready_and_sound_or_its_completion_can_be_repeated(storage: Path) -> None:
    seed = random.randrange(10**6)
    connection.close()
    done = subprocess.run(
        [sys.executable, "-m", "tests.registry.completing", str(ATTEMPTS), str(seed)],
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
    undisturbed, *attempts = json.loads(done.stdout.splitlines()[-1])
    assert undisturbed["left"] == {"status": "ready", "problems": []}, undisturbed
    assert all(a["killed"] for a in attempts)
    assert {a["left"]["status"] for a in attempts} <= {"training", "ready"}
    for one in attempts:
        assert one["left"]["problems"] == [], (seed, one)
        assert one["after"] == {"status": "ready", "problems": []}, (seed, one)
        assert not one["staging_left"], (seed, one)
