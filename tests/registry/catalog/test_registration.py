"""Registering models, with and without an MLflow server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.db import connection

from registry.catalog.registration import register_model
from registry.errors import Conflict, Invalid
from registry.mlflow import outbox, tracking
from registry.models import MLflowOutbox, Model
from tests.registry.build import make_base, make_version
from tests.registry.mlflow_serving import Server
from tests.running import put_mlflow_store

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


def test_a_model_keeps_what_it_was_given() -> None:
    base = make_base()
    model = register_model("cal", base, "extraction", "Calendar", ["a", " a ", "b"])
    assert (model.name, model.base_model, model.task_type) == ("cal", base, "extraction")
    assert (model.description, model.tags) == ("Calendar", ["a", "b"])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": "a b"}, "name: 'a b' is not a valid name"),
        ({"name": "../a"}, "name: '../a' is not a valid name"),
        ({"name": ""}, "name: This field cannot be blank"),
        ({"task_type": "poetry"}, "task_type: Value 'poetry' is not a valid choice"),
        ({"tags": ["x" * 51]}, "at most 20 tags"),
        ({"tags": [""]}, "at most 20 tags"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, Any], told: str) -> None:
    base = make_base()
    with pytest.raises(Invalid) as caught:
        register_model(**{"name": "cal", "base": base, **fields})
    assert told in str(caught.value)
    assert not Model.objects.exists()


def test_a_taken_name_is_a_conflict_whatever_its_case() -> None:
    register_model("cal", make_base())
    with pytest.raises(Conflict, match="already a model named CAL"):
        register_model("CAL", make_base("other"))
    assert Model.objects.count() == 1


def test_a_model_is_registered_while_the_server_is_down(settings: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        settings.MLFLOW_TRACKING_URI = f"http://127.0.0.1:{unused.getsockname()[1]}"
    model = register_model("cal", make_base())
    assert model.mlflow_experiment_id == ""
    waiting = MLflowOutbox.objects.get()
    assert (waiting.operation, waiting.payload) == ("create_experiment", {"model": model.pk})
    told = tracking.ping()
    assert told is not None
    assert "does not answer ([Errno" in told


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", "is not MLflow."),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "is not MLflow (404)"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "refuses the hub (403): set MLFLOW_"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "fails (500)"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "does not answer ("),
        (b"", "does not answer ("),  # it listens and is silent, as a stopped process does
    ],
)
def test_a_server_is_asked_what_only_mlflow_knows(
    settings: Any, answer: bytes, told: str | None
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings.MLFLOW_TRACKING_URI = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def serve() -> None:
            caller, _ = listener.accept()
            with caller:
                while not caller.recv(1 << 16).endswith(b"}"):
                    pass
                caller.sendall(answer)

        if answer:
            threading.Thread(target=serve, daemon=True).start()
        found = tracking.ping(limit_s=0.3 if not answer else 5)
    assert (found is None) if told is None else (told in found)


def test_the_embedded_store_is_never_down() -> None:
    assert tracking.ping() is None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, mlflow_process: None) -> Iterator[str]:
    """A real MLflow server on loopback. Its start is slow, and what it does not depend on the
    hub's database, so one of the two is enough."""
    if connection.vendor == "postgresql":
        pytest.skip("tried on SQLite")
    running = Server(tmp_path_factory.mktemp("server"))
    put_mlflow_store(running.folder / "mlflow.sqlite3")
    running.start()
    yield running.url
    running.kill()


@pytest.mark.usefixtures("mlflow_process")
def test_a_server_gets_experiments_and_runs_by_the_outbox(
    server: str, settings: Any, storage: Path
) -> None:
    settings.MLFLOW_TRACKING_URI = server
    assert tracking.ping() is None
    model = register_model("cal", make_base())
    version = make_version(model)
    tracking.start_run(1, version)
    tracking.finish_run(1, "completed", storage / version.artifact_path)
    assert outbox.flush() == 6
    model.refresh_from_db()
    (run,) = tracking.history(model, limit_s=60)
    assert run["status"] == "FINISHED"
    artifacts = httpx.get(
        f"{server}/api/2.0/mlflow/artifacts/list",
        params={"run_id": run["run_id"], "path": "adapter"},
    ).json()
    assert "adapter/adapters.safetensors" in {file["path"] for file in artifacts["files"]}


@pytest.mark.usefixtures("mlflow_process")
def test_an_experiment_of_that_name_is_used_again_even_after_its_deletion(
    server: str, settings: Any
) -> None:
    settings.MLFLOW_TRACKING_URI = server
    model = register_model("again", make_base())
    assert outbox.flush() == 1
    model.refresh_from_db()
    first = model.mlflow_experiment_id
    httpx.post(
        f"{server}/api/2.0/mlflow/experiments/delete", json={"experiment_id": first}
    ).raise_for_status()
    outbox.try_again(MLflowOutbox.objects.all())
    MLflowOutbox.objects.update(done_at=None)
    assert outbox.flush() == 1
    model.refresh_from_db()
    assert model.mlflow_experiment_id == first
