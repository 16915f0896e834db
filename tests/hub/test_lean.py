"""What each process imports before it has anything to do: memory and time that nobody gets back."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hub.config import ROOT
from hub.lean import bare, hidden

ML = {"mlx", "mlx_lm", "mlflow", "transformers", "torch", "numpy", "pandas", "pyarrow"}
CLIENTS = {"httpx", "httpx2", "requests", "mcp", "huggingface_hub"}
NEVER = {
    *ML,
    *CLIENTS,
    "rich",
    "jsonschema",
    "jinja2",
    "unittest",
    "opentelemetry",
    "phonenumbers",
    "nh3",
}
PAGES = {"ninja", "django.contrib.admin", "axes", "uvicorn", "prometheus_client"}
SESSIONS = {
    "channels",
    "django_structlog",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
}
TABLES = {"registry.models", "django.db.models", "structlog", "huey"}
REST = {"hub.urls.pages", "hub.api", "registry.web.api", "training.web", "hub.catalogue.api"}
# What each imports, and what it must not have imported by then.
STARTS = {
    "up": [("hub.management.commands.up", {*NEVER, *PAGES, *TABLES})],
    "run_web": [
        ("hub.management.commands.run_web, hub.asgi, hub.urls", {*NEVER, *REST}),
        (
            "hub.urls.pages, registry.admin.tables, registry.mlflow.outbox",
            NEVER,
        ),  # its pages, later
    ],
    "run_background": [("hub.management.commands.run_background", {*NEVER, *PAGES, *SESSIONS})],
    "run_engine": [
        (
            "inference.management.commands.run_engine, inference.engine.server",
            {*NEVER, *PAGES, *SESSIONS, "registry.models", "django.db.models"},
        )
    ],
}
LOGS = "from django.conf import settings; settings.LOGGING\n"
SETUPS = {"up": "", "run_engine": LOGS + "from hub.apps import begin; begin()\n"}


@pytest.mark.parametrize("command", STARTS)
def test_a_start_imports_no_more_than_it_needs(command: str, tmp_path: Path) -> None:
    setup = SETUPS.get(command, "import django; django.setup()\n")
    code = (
        "import sys, manage; manage.keep_bytecode()\n"
        f"sys.argv = ['manage.py', {command!r}]\n{setup}"
    )
    for modules, unwanted in STARTS[command]:
        code += f"import {modules}\nprint(*set({sorted(unwanted)}) & sys.modules.keys())\n"
    environment = {
        **os.environ,
        "HUB_STORAGE": str(tmp_path),
        "HUB_ENV_FILE": os.devnull,
        "DJANGO_SETTINGS_MODULE": "hub.settings",
    }
    (tmp_path / "run").mkdir()
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    assert answer.stdout.decode().splitlines() == [""] * len(STARTS[command])


def test_a_hidden_module_is_found_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with hidden("wave"), pytest.raises(ImportError):
        importlib.import_module("wave")
    assert importlib.import_module("wave").open


def test_a_module_without_its_package_is_the_one_that_is_used_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "xmlrpc"]:
        monkeypatch.delitem(sys.modules, name)
    with bare("xmlrpc"):
        early = importlib.import_module("xmlrpc.client")
    assert "xmlrpc" not in sys.modules
    assert importlib.import_module("xmlrpc")
    assert importlib.import_module("xmlrpc.client") is early


def test_garbage_is_collected_once_all_is_imported(tmp_path: Path) -> None:
    code = "import gc; print(gc.isenabled(), gc.get_freeze_count() > 1000)"
    said = subprocess.run(
        [sys.executable, "manage.py", "shell", "--no-imports", "-c", code],
        cwd=ROOT,
        env={**os.environ, "HUB_STORAGE": str(tmp_path), "HUB_ENV_FILE": os.devnull},
        capture_output=True,
        check=True,
        text=True,
    )
    assert said.stdout.split() == ["True", "True"]
