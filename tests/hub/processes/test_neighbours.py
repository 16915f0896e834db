"""Training asks the engine over a real socket, and the engine asks about training."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db.backends.signals import connection_created

from hub.processes import neighbours as of_hub
from hub.processes.neighbours import Engine, Training
from inference.engine.memory import neighbours as of_inference
from inference.protocol import Reply, decode_request, encode_event
from registry.storage import paths
from tests.training.build import claim, make_job
from training import queue
from training.machine import neighbours
from training.models import TrainingJob

pytestmark = pytest.mark.any_database

REGISTERED = of_inference.present()  # before a test may change it


def held(name: str, nbytes: int, **more: object) -> dict[str, Any]:
    return {
        "base": name,
        "base_path": f"base/{name}",
        "adapter_path": "",
        "nbytes": nbytes,
        "running": 0,
        "idle_s": 0.0,
        "pinned": False,
        **more,
    }


class Listener:
    """Responds with one line per connection like the engine, and records the requests."""

    def __init__(self, running: int = 0) -> None:
        import socket

        self.models = {
            "old": held("old", 400, idle_s=90.0),
            "new": held("new", 300, idle_s=2.0),
            "busy": held("busy", 200, running=1),
        }
        self.running = running
        self.coming = 0
        self.unloaded: list[str] = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(str(paths.engine_socket()))
        self.socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as file:
                request = decode_request(file.readline())
                connection.sendall(encode_event(Reply(self._answer(request))))

    def _answer(self, request: object) -> dict[str, object]:
        if base := getattr(request, "base", None):
            name = Path(base.path).name
            self.unloaded.append(name)
            del self.models[name]
            return {"unloaded": [name]}
        models = list(self.models.values())
        return {
            "models": models,
            "models_bytes": sum(int(model["nbytes"]) for model in models),
            "coming_bytes": self.coming,
            "running": self.running,
            "waiting": 0,
        }


@pytest.fixture
def engine(storage: Path) -> object:
    listener = Listener()
    yield listener
    listener.socket.close()


def test_the_hub_registers_both() -> None:
    assert isinstance(neighbours.present(), Engine)
    assert isinstance(REGISTERED, Training)


def test_without_an_engine_nobody_is_there(storage: Path) -> None:
    engine = Engine()
    assert (engine.held_bytes(), engine.busy_bytes(), engine.someone_waits()) == (0, 0, False)
    assert engine.make_room(10**9) == []


def test_what_the_engine_holds_and_for_whom(engine: Listener) -> None:
    assert (Engine().held_bytes(), Engine().busy_bytes()) == (900, 200)
    assert not Engine().someone_waits()
    engine.running = 1
    assert Engine().someone_waits()


def test_the_longest_idle_models_are_evicted_and_busy_ones_stay(engine: Listener) -> None:
    assert Engine().make_room(100) == ["old"]
    assert Engine().make_room(10_000) == ["new"]
    assert engine.unloaded == ["old", "new"]
    assert Engine().held_bytes() == 200


def test_a_pinned_model_is_not_evicted_for_training(engine: Listener) -> None:
    engine.models["old"]["pinned"] = True
    assert Engine().busy_bytes() == 600
    assert Engine().make_room(10_000) == ["new"]


def test_a_model_that_is_being_loaded_is_held_already(engine: Listener) -> None:
    engine.coming = 50
    assert Engine().held_bytes() == 950


@pytest.mark.django_db
def test_a_running_job_counts_with_its_estimate_or_its_measured_peak() -> None:
    assert Training().taken() == of_inference.Taken()
    make_job()
    assert Training().taken().nbytes == 0  # it waits
    job = claim()
    assert job.lease is not None
    job.write_held(job.lease, memory_estimate_bytes=700)
    assert Training().taken() == of_inference.Taken(700, f"training job {job.pk}")
    job.write_held(job.lease, peak_memory_bytes=900)
    assert Training().taken().nbytes == 900
    queue.fail(job, job.lease, "It went wrong.")
    assert Training().taken() == of_inference.Taken()


@pytest.mark.django_db(transaction=True)
def test_the_engine_asks_over_one_connection(storage: Path) -> None:
    """It asks every few seconds for as long as the hub runs."""
    opened: list[int] = []

    def note(**kwargs: Any) -> None:
        opened.append(threading.get_ident())

    connection_created.connect(note)
    try:
        asking = Training()
        assert asking.taken() == of_inference.Taken()
        assert opened == []  # no job has been claimed
        paths.training_mark().touch()
        for _ in range(3):
            with ThreadPoolExecutor(1) as other:
                assert other.submit(asking.taken).result() == of_inference.Taken()
    finally:
        connection_created.disconnect(note)
    assert len(opened) == 1


@pytest.mark.django_db(transaction=True)
def test_what_cannot_be_asked_is_what_was_known(monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job()
    claim()
    TrainingJob.objects.filter(pk=job.pk).update(memory_estimate_bytes=700)
    asking = Training()
    assert asking.taken().nbytes == 700
    stalled = threading.Event()
    monkeypatch.setattr(of_hub, "_READ_S", 0.05)
    monkeypatch.setattr(of_hub, "_running_job", stalled.wait)
    assert asking.taken().nbytes == 700
    stalled.set()
