"""200 random `kill -9` while versions are made, archived and restored."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from tests.registry.test_kill import database_url

pytestmark = pytest.mark.django_db(transaction=True)

KILLS = 200


def test_every_row_has_sound_files_and_every_file_a_row_or_a_line_in_gc(storage: Path) -> None:
    seed = random.randrange(10**6)
    connection.close()
    done = subprocess.run(
        [sys.executable, "-m", "tests.registry.archiving", str(KILLS), str(seed)],
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
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["problems"] == [], (seed, report)
    assert report["killed"] == KILLS, (seed, done.stderr[-3000:])
    assert report["interrupted"] > 0, report  # else the kills met nothing worth testing
    kept = report["versions"].get("ready", 0) + report["versions"].get("archived", 0)
    assert kept > 6, report  # versions were made, not only moved
