"""A real MLflow server that dies at every step: nothing half made, lost or told twice.

It is killed in the middle of every request of a registration and a training; and the line to it is
cut before and after each, which is quicker and tells the same of a server that died just then.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from hub.monitoring import health
from registry.maintenance.removal import remove_model
from registry.mlflow import outbox, values
from registry.models import MLflowOutbox, Model, ModelVersion
from registry.promotion.aliases import move_alias
from tests.registry.build import make_base
from tests.registry.mlflow_serving import Cut, Line, Server
from tests.running import THOROUGH, put_mlflow_store
from tests.training.build import claim, make_job
from training.attempt import runner

pytestmark = [
    pytest.mark.any_database,
    pytest.mark.django_db,
    pytest.mark.usefixtures("mlflow_process"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, mlflow_process: None) -> Iterator[Server]:
    if connection.vendor == "postgresql":
        pytest.skip("tried on SQLite")
    server = Server(tmp_path_factory.mktemp("outage"))
    put_mlflow_store(server.folder / "mlflow.sqlite3")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def line(server: Server, settings: Any) -> Iterator[Line]:
    if not server.is_running:
        server.start()
    line = Line(server)
    settings.MLFLOW_TRACKING_URI = line.url
    yield line
    line.close()


STEPS = {
    "create_experiment",
    "start_run",
    "log_input",
    "log_metrics",
    "log_artifacts",
    "end_run",
    "register_version",
    "set_alias",
}


def a_name() -> str:
    return f"m-{uuid.uuid4().hex[:8]}"


def register(client: Client, name: str) -> Any:
    return client.post(
        "/api/models", {"name": name, "base_model": "tiny"}, content_type="application/json"
    )


def train(name: str) -> ModelVersion:
    """A whole job with the fake backend; MLflow is not met on the way."""
    make_job(Model.objects.get(name=name))
    job = claim()
    assert job.lease is not None
    runner.run(job.pk, job.lease, lambda: "")
    version = ModelVersion.objects.get(model__name=name)
    assert version.status == "ready"
    move_alias(version.model, "production", version)
    return version


def deliver_all() -> None:
    """Until nothing waits, without the pauses."""
    for _ in range(30):
        outbox.try_again(MLflowOutbox.objects.all())
        outbox.flush(1000)
        if not outbox.waiting().exists():
            return
    raise AssertionError(list(outbox.waiting().values_list("operation", "last_error")))


def ask(server: Server, method: str, path: str, **arguments: Any) -> Any:
    answer = httpx.request(method, f"{server.url}/api/2.0/mlflow/{path}", timeout=30, **arguments)
    answer.raise_for_status()
    return answer.json()


def check(server: Server, version: ModelVersion) -> None:
    """MLflow knows of the version exactly once, and everything about it."""
    version.refresh_from_db()
    name = version.model.name
    found = {"experiment_ids": [Model.objects.get(name=name).mlflow_experiment_id]}
    (run,) = ask(server, "POST", "runs/search", json=found)["runs"]
    assert run["info"]["run_id"] == version.mlflow_run_id
    assert run["info"]["status"] == "FINISHED"
    assert {m["key"] for m in run["data"]["metrics"]} >= {"train_loss", "val_loss"}
    assert {p["key"]: p["value"] for p in run["data"]["params"]}["iters"] == "20"
    (used,) = run["inputs"]["dataset_inputs"]
    assert used["dataset"]["digest"] == version.dataset_checksum[:36]
    query = {"run_id": version.mlflow_run_id, "metric_key": "train_loss"}
    history = ask(server, "GET", "metrics/get-history", params=query)["metrics"]
    assert sorted(int(m["step"]) for m in history) == list(range(1, 21))
    query = {"run_id": version.mlflow_run_id, "path": "adapter"}
    files = {f["path"] for f in ask(server, "GET", "artifacts/list", params=query)["files"]}
    assert "adapter/adapters.safetensors" in files
    query = {"filter": f"name='{name}'"}
    (made,) = ask(server, "GET", "model-versions/search", params=query)["model_versions"]
    assert made["version"] == version.mlflow_version
    tags = {tag["key"]: tag["value"] for tag in made["tags"]}
    assert tags == values.version_tags(version)
    query = {"name": name, "alias": "production"}
    aliased = ask(server, "GET", "registered-models/alias", params=query)["model_version"]
    assert aliased["version"] == version.mlflow_version


@pytest.mark.parametrize("cut", ["before", "after", "killed"])
def test_every_request_of_a_training_may_be_the_last(line: Line, server: Server, cut: Cut) -> None:
    """One death in each delivery, each at a later request, until all requests had theirs. A kill costs the
    server's next start: but for a thorough run, some requests after the first of an operation are passed
    over, others each time."""
    make_base("tiny")
    name = a_name()
    assert register(Client(), name).status_code == 201
    version = train(name)
    cuts, killed_before, every = 0, server.kills, cut != "killed" or THOROUGH
    for entry in MLflowOutbox.objects.order_by("pk"):
        skip = 0
        while skip < 50:  # the requests of this operation in turn
            line.arm(cut, skip)
            outbox.try_again(MLflowOutbox.objects.filter(pk=entry.pk))
            MLflowOutbox.objects.filter(pk=entry.pk).update(done_at=None)
            outbox.flush(1)
            entry.refresh_from_db()
            if not line.cuts:
                break
            cuts += 1
            # Whoever asks for an experiment looks for it again when its making failed.
            found = (cut, entry.operation) == ("after", "create_experiment")
            assert found or entry.done_at is None, (entry.operation, skip)
            if not server.is_running:
                server.start()
            skip += 1 if every else random.randint(1, 4)
        assert entry.done_at is not None, (entry.operation, entry.last_error)
    assert set(MLflowOutbox.objects.values_list("operation", flat=True)) >= STEPS
    assert cuts > (2 if every else 1) * len(STEPS)
    assert server.kills - killed_before == (cuts if cut == "killed" else 0)
    line.arm("", 0)
    deliver_all()
    check(server, version)


@pytest.mark.parametrize("cut", ["before", "after"])
def test_every_request_of_a_deletion_may_be_the_last(line: Line, server: Server, cut: Cut) -> None:
    make_base("tiny")
    name = a_name()
    assert register(Client(), name).status_code == 201
    old = train(name)
    deliver_all()
    old.refresh_from_db()
    remove_model(old.model, name)
    entry = MLflowOutbox.objects.get(operation="retire")
    cuts = 0
    for skip in range(50):
        line.arm(cut, skip)
        outbox.try_again(MLflowOutbox.objects.filter(pk=entry.pk))
        MLflowOutbox.objects.filter(pk=entry.pk).update(done_at=None)
        outbox.flush(1)
        cuts += line.cuts
        if not line.cuts:
            break
    entry.refresh_from_db()
    assert (entry.done_at is not None, entry.last_error) == (True, "")
    assert cuts > 2
    line.arm("", 0)
    check_put_away(server, name, old)


def test_a_model_is_deleted_and_registered_anew_while_mlflow_is_dead(
    line: Line, server: Server
) -> None:
    make_base("tiny")
    name = a_name()
    assert register(Client(), name).status_code == 201
    old = train(name)
    deliver_all()
    old.refresh_from_db()
    server.kill()
    try:
        assert Client().delete(f"/api/models/{old.model_id}?force={name}").status_code == 200
        outbox.flush()
        assert outbox.waiting().get().operation == "retire"
        # Registered before MLflow knows: the model gets the old experiment, and only that.
        assert register(Client(), name).status_code == 201
    finally:
        server.start()
    new = train(name)
    deliver_all()
    check(server, new)
    gone = ask(server, "GET", "runs/get", params={"run_id": old.mlflow_run_id})["run"]
    assert gone["info"]["lifecycle_stage"] == "deleted"


def check_put_away(server: Server, name: str, old: ModelVersion) -> None:
    """Nothing goes by the model's name, what was known of it can be restored, and a model that is
    registered anew begins with nothing."""
    run = ask(server, "GET", "runs/get", params={"run_id": old.mlflow_run_id})["run"]
    assert run["info"]["lifecycle_stage"] == "deleted"
    found = {"experiment_id": run["info"]["experiment_id"]}
    experiment = ask(server, "GET", "experiments/get", params=found)["experiment"]
    assert experiment["name"].startswith(f"{name} (deleted 20")
    assert experiment["lifecycle_stage"] == "deleted"
    for path in ("experiments/get-by-name?experiment_name=", "registered-models/get?name="):
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            ask(server, "GET", f"{path}{name}")
    assert register(Client(), name).status_code == 201
    new = train(name)
    deliver_all()
    check(server, new)
    assert new.mlflow_version == "1"


def test_a_killed_server_stalls_no_training_and_loses_nothing(line: Line, server: Server) -> None:
    make_base("tiny")
    name, other = a_name(), a_name()
    assert register(Client(), name).status_code == 201
    deliver_all()
    server.kill()
    try:
        assert register(Client(), other).status_code == 201
        waits = health.parts()["mlflow"]
        assert waits.status == "warning"
        assert waits.reason.startswith("1 update waiting for MLflow, the oldest since")
        assert "does not answer" in waits.reason
        began = time.monotonic()
        version = train(name)
        assert time.monotonic() - began < 30
        assert outbox.flush() == 0
        assert outbox.waiting().order_by("pk").first().attempts == 1
        page = Client().get(f"/models/{version.model_id}/runs/", headers={"HX-Request": "true"})
        assert "MLflow is not responding" in page.content.decode()
        assert Client().get(f"/api/models/{version.model_id}/history").status_code == 503
    finally:
        server.start()
    MLflowOutbox.objects.update(not_before=timezone.now())
    outbox.flush(3)
    server.kill()
    outbox.flush(3)
    server.start()
    deliver_all()
    assert Model.objects.get(name=other).mlflow_experiment_id
    check(server, version)
    page = Client().get(f"/models/{version.model_id}/runs/")
    assert f"{name}@0.1.0" in page.content.decode()
