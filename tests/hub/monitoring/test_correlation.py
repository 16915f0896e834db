"""One id follows a request through web, engine, worker and training child."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.running import RunningHub, wait_until

CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}


@pytest.fixture
def correlation_id() -> str:
    return f"test-{uuid.uuid4().hex}"


def register_base(client: httpx.Client) -> str:
    base = client.post("/api/bases", json={"source": "starter"}).raise_for_status().json()
    return str(base["name"])


def requests(client: httpx.Client, correlation_id: str) -> list[dict[str, Any]]:
    """The request log's rows with one ID; a row is written just after its answer ends."""
    found: list[dict[str, Any]] = []

    def written() -> bool:
        answer = client.get("/api/requests", params={"correlation_id": correlation_id})
        found.extend(answer.raise_for_status().json()["items"])
        return bool(found)

    wait_until(written)
    return found


def logged(hub: RunningHub) -> list[dict[str, Any]]:
    """Every JSON line of the hub's log."""
    lines = hub.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.mark.parametrize("stream", [False, True])
def test_a_generation_is_logged_under_the_clients_id(
    running_hub: RunningHub, correlation_id: str, stream: bool
) -> None:
    headers = {"X-Correlation-ID": correlation_id}
    with httpx.Client(base_url=running_hub.url, timeout=60) as client:
        body = {**CHAT, "model": f"base:{register_base(client)}", "stream": stream}
        answer = client.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.headers["X-Correlation-ID"] == correlation_id
        assert [item["streamed"] for item in requests(client, correlation_id)] == [stream]


def test_every_generation_over_one_websocket_has_an_id_of_its_own(
    running_hub: RunningHub,
) -> None:
    url = f"{running_hub.url.replace('http', 'ws')}/ws/inference"
    with httpx.Client(base_url=running_hub.url, timeout=60) as client:
        body = {**CHAT, "type": "generate", "model": f"base:{register_base(client)}"}
        answered = set()
        with connect(url) as socket:
            for number in ("a", "b"):
                socket.send(json.dumps({**body, "id": number}))
                answered.add(json.loads(socket.recv(timeout=30))["request_id"])
                while json.loads(socket.recv(timeout=30))["event"] != "done":
                    pass

        def ids() -> set[str]:
            rows = client.get("/api/requests", params={"api": "websocket"}).json()["items"]
            return {row["correlation_id"] for row in rows if row["request_id"] in answered}

        wait_until(lambda: len(ids() - {""}) == 2)


def test_a_training_job_logs_under_it_in_every_process(
    running_hub: RunningHub, correlation_id: str
) -> None:
    examples = [{"prompt": f"say {number}", "completion": str(number)} for number in range(40)]
    headers = {"X-Correlation-ID": correlation_id}
    with httpx.Client(base_url=running_hub.url, timeout=60) as client:
        name = f"c-{correlation_id[-12:]}"
        model = {"name": name, "base_model": register_base(client)}
        ids = {
            "model_id": client.post("/api/models", json=model).raise_for_status().json()["id"],
            "dataset_id": client.post("/api/datasets", json={"name": name, "examples": examples})
            .raise_for_status()
            .json()["id"],
        }
        body = {**ids, "config": {"iters": 4, "warmup": 0, "batch_size": 2}}
        job = client.post("/api/training/jobs", json=body, headers=headers).raise_for_status()
        url = f"/api/training/jobs/{job.json()['id']}"
        wait_until(
            lambda: client.get(url).json()["status"] in ("completed", "failed"), timeout_s=120
        )
        assert client.get(url).json()["status"] == "completed"
    processes = {
        line["process"]
        for line in logged(running_hub)
        if line.get("correlation_id") == correlation_id
    }
    assert {"web", "background"} <= processes
