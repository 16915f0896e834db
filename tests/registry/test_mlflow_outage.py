"""A real MLflow server that dies at every step: nothing half made, lost or told twice.

The server's own start takes seconds, so most deaths are those of the line to it: a proxy on
loopback that drops a connection before the request arrives, or after it was carried out and
before its answer. The server itself is killed where that could differ.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from registry import mlflow_server, mlflow_values, outbox, tracking
from registry.aliases import move_alias
from registry.models import MLflowOutbox, Model, ModelVersion
from tests.registry.build import make_base
from tests.training.build import claim, make_job
from training import runner

pytestmark = [
    pytest.mark.any_database,
    pytest.mark.django_db,
    pytest.mark.usefixtures("mlflow_process"),
]

Cut = Literal["", "before", "after"]


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@dataclass
class Server:
    """`mlflow server` with a store in `folder`; the same one after each start."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        arguments = ["--workers", "1", "--port", str(self.port)]
        arguments += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.sqlite3"]
        arguments += ["--artifacts-destination", str(self.folder / "artifacts")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *arguments],
            env={
                **os.environ,
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while mlflow_server.trouble(self.url, 1.0) is not None:
            assert time.monotonic() < deadline, "the MLflow server did not start"
            time.sleep(0.3)

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None


class Line:
    """Passes one request per connection on, but for those it was told to cut."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.cut: Cut = ""
        self.skip = 0  # requests that pass before the cut; a cut is made once
        self.cuts = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def arm(self, cut: Cut, skip: int) -> None:
        self.cut, self.skip, self.cuts = cut, skip, 0

    def _listen(self) -> None:
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(caller,), daemon=True).start()

    def _turn(self) -> Cut:
        if not self.cut:
            return ""
        if self.skip:
            self.skip -= 1
            return ""
        cut, self.cut = self.cut, ""
        self.cuts += 1
        return cut

    def _pass(self, caller: socket.socket) -> None:
        with caller:
            request = _message(caller)
            cut = self._turn()
            if not request or cut == "before":
                return
            try:
                with socket.create_connection(("127.0.0.1", self.server.port), 30) as onward:
                    onward.sendall(request)
                    answer = b""
                    while data := onward.recv(1 << 16):
                        answer += data
            except OSError:
                return
            if cut != "after":
                caller.sendall(answer)


def _message(caller: socket.socket) -> bytes:
    """One whole request, made the last of its connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = caller.recv(1 << 16)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    named = dict(line.lower().split(b": ", 1) for line in lines[1:])
    if named.get(b"transfer-encoding") == b"chunked":
        while not body.endswith(b"0\r\n\r\n"):
            body += caller.recv(1 << 16)
    while len(body) < int(named.get(b"content-length", b"0")):
        body += caller.recv(1 << 16)
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if connection.vendor == "postgresql":
        pytest.skip("tried on SQLite")
    server = Server(tmp_path_factory.mktemp("outage"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def line(server: Server, settings: Any) -> Iterator[Line]:
    line = Line(server)
    settings.MLFLOW_TRACKING_URI = line.url
    yield line
    line.listener.close()


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
        tracking.flush(1000)
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
    assert tags == mlflow_values.version_tags(version)
    query = {"name": name, "alias": "production"}
    aliased = ask(server, "GET", "registered-models/alias", params=query)["model_version"]
    assert aliased["version"] == version.mlflow_version


@pytest.mark.parametrize("cut", ["before", "after"])
def test_every_request_of_a_training_may_be_cut(line: Line, server: Server, cut: Cut) -> None:
    """One cut in each delivery, each at a later request, until all requests had theirs."""
    make_base("tiny")
    name = a_name()
    assert register(Client(), name).status_code == 201
    version = train(name)
    cuts = 0
    for entry in MLflowOutbox.objects.order_by("pk"):
        for skip in range(50):  # each request of this operation in turn
            line.arm(cut, skip)
            outbox.try_again(MLflowOutbox.objects.filter(pk=entry.pk))
            MLflowOutbox.objects.filter(pk=entry.pk).update(done_at=None)
            tracking.flush(1)
            entry.refresh_from_db()
            if not line.cuts:
                break
            cuts += 1
            assert entry.done_at is None, (entry.operation, skip)
        assert entry.done_at is not None, (entry.operation, entry.last_error)
    assert cuts > 2 * len(set(MLflowOutbox.objects.values_list("operation", flat=True)))
    line.arm("", 0)
    deliver_all()
    check(server, version)


@pytest.mark.parametrize(
    ("cut", "skip"), [("before", 0), ("before", 1), ("after", 0), ("after", 1)]
)
def test_a_registration_that_is_cut_leaves_nothing_and_can_be_repeated(
    line: Line, cut: Cut, skip: int
) -> None:
    make_base("tiny")
    name = a_name()
    line.arm(cut, skip)
    answer = register(Client(), name)
    assert (answer.status_code, line.cuts) == (503, 1)
    assert "MLflow server does not answer" in answer.content.decode()
    assert not Model.objects.exists()
    assert not MLflowOutbox.objects.exists()
    assert register(Client(), name).status_code == 201
    assert Model.objects.get().mlflow_experiment_id


def test_a_killed_server_stalls_no_training_and_loses_nothing(line: Line, server: Server) -> None:
    make_base("tiny")
    name, other = a_name(), a_name()
    assert register(Client(), name).status_code == 201
    server.kill()
    try:
        assert register(Client(), other).status_code == 503
        assert not Model.objects.filter(name=other).exists()
        began = time.monotonic()
        version = train(name)
        assert time.monotonic() - began < 30
        assert tracking.flush() == 0
        assert outbox.waiting().get(operation="start_run").attempts == 1
        page = Client().get(f"/models/{version.model_id}/runs/", headers={"HX-Request": "true"})
        assert "MLflow is not answering" in page.content.decode()
        assert Client().get(f"/api/models/{version.model_id}/history").status_code == 503
    finally:
        server.start()
    MLflowOutbox.objects.update(not_before=timezone.now())
    tracking.flush(3)
    server.kill()
    tracking.flush(3)
    server.start()
    assert register(Client(), other).status_code == 201
    deliver_all()
    check(server, version)
    page = Client().get(f"/models/{version.model_id}/runs/")
    assert f"{name}@0.1.0" in page.content.decode()
