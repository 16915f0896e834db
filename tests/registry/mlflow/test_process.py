"""MLflow's process: started by the first call, ended when nobody calls. A script stands for MLflow."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from registry.mlflow import process, tracking
from registry.mlflow.process import MLflowProcess, Starting
from tests.registry.build import make_model

SCRIPT = """
import sys
print('{"ready": true}', flush=True)
for line in sys.stdin:
    print('{"result": 7}', flush=True)
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[MLflowProcess]:
    monkeypatch.setattr(process, "_COMMAND", [sys.executable, "-S", "-c", SCRIPT])
    made = MLflowProcess(idle_s=0.3)
    yield made
    made.close()


def call(mlflow: MLflowProcess) -> Any:
    return mlflow.call("sqlite:///", "ping", {}, limit_s=30)


def wait_until_ended(mlflow: MLflowProcess) -> None:
    deadline = time.monotonic() + 30
    while mlflow._child is not None and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.slow
def test_no_process_runs_before_the_first_call_nor_after_a_while_without_one(
    script: MLflowProcess,
) -> None:
    assert script._child is None
    assert call(script) == 7
    child = script._child
    assert child is not None
    wait_until_ended(script)
    assert script._child is None
    deadline = time.monotonic() + 30  # it is let go before it is waited for
    while child.returncode is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert child.returncode is not None  # waited for, so that no zombie is left
    assert call(script) == 7


@pytest.mark.slow
def test_a_long_call_is_not_idleness(
    script: MLflowProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SCRIPT.replace("    print", "    __import__('time').sleep(0.8); print")
    monkeypatch.setattr(process, "_COMMAND", [sys.executable, "-S", "-c", slow])
    assert call(script) == 7


@pytest.mark.django_db
def test_a_page_that_started_it_says_so_and_asks_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starting(*arguments: Any) -> Any:
        raise Starting("MLflow is still starting.")

    model = make_model(mlflow_experiment_id="1")
    monkeypatch.setattr(tracking.mlflow, "call", starting)
    page = client.get(f"/models/{model.pk}/runs/", headers={"HX-Request": "true"}).content.decode()
    assert "Starting MLflow" in page
    assert 'hx-trigger="load delay:1s"' in page
    assert "not responding" not in page
