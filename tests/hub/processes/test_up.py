"""`manage.py up` with real processes: it starts, restarts and stops them, and leaves none behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import ollama
import psutil
import pytest
from openai import OpenAI

from tests.running import (
    PROCESSES,
    RunningHub,
    free_port,
    hub_environment,
    manage,
    own_database,
    put_hub_store,
    run_hub,
    wait_until,
)

pytestmark = pytest.mark.any_database


def gone(pids: list[int]) -> bool:
    """Whether none of them runs; a zombie does not count as running."""
    running = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            running.append(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return not any(running)


def train_for_long(hub: RunningHub) -> None:
    """Queue a job that would run for minutes, and wait for its process."""
    examples = [{"prompt": f"say {number}", "completion": str(number)} for number in range(40)]
    with httpx.Client(base_url=hub.url, timeout=60) as client:

        def post(path: str, body: dict[str, object]) -> dict[str, object]:
            return client.post(path, json=body).raise_for_status().json()  # type: ignore[no-any-return]

        base = post("/api/bases", {"source": "starter"})
        model = post("/api/models", {"name": "long", "base_model": base["name"]})
        data = post("/api/datasets", {"name": "long", "examples": examples})
        ids = {"model_id": model["id"], "dataset_id": data["id"]}
        post("/api/training/jobs", {**ids, "config": {"iters": 1_000_000}})
    wait_until(lambda: any("run_job" in line for line in commands(hub)))


def commands(hub: RunningHub) -> list[str]:
    lines = []
    for pid in hub.pids():
        with contextlib.suppress(psutil.Error):
            lines.append(" ".join(psutil.Process(pid).cmdline()))
    return lines


def test_killed_children_are_restarted_and_sigterm_stops_all(tmp_path: Path) -> None:
    with run_hub(tmp_path, measured=True, with_tables=False) as hub:
        before = {name: hub.pid(name) for name in PROCESSES}
        for pid in before.values():
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: all(hub.pid(name) not in (None, before[name]) for name in PROCESSES))
        hub.wait_ready()
        train_for_long(hub)
        pids = hub.pids()
        assert len(pids) > len(PROCESSES)
        assert hub.stop() < 10
        wait_until(lambda: gone(pids), timeout_s=1)  # what was killed takes a moment to die
        assert hub.process.returncode == 0


def test_an_answer_is_finished_before_the_end(tmp_path: Path) -> None:
    pace: dict[str, Any] = {"HUB_FAKE_TOKENS_PER_SECOND": "20", "HUB_FAKE_REPLY_WORDS": "80"}
    with run_hub(tmp_path, HUB_DRAIN_S="20", **pace) as hub:
        base = httpx.post(f"{hub.url}/api/bases", json={"source": "starter"}, timeout=60).json()
        with OpenAI(base_url=f"{hub.url}/v1", api_key="any", max_retries=0) as client:
            stream = client.chat.completions.create(
                model=f"base:{base['name']}",
                messages=[{"role": "user", "content": "Lunch with Ana"}],
                stream=True,
            )
            first = next(stream)
            hub.process.send_signal(signal.SIGTERM)
            chunks = [first, *stream]
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert len(chunks) >= 80
        assert hub.process.wait(20) == 0


def test_nothing_outlives_an_up_that_was_killed(tmp_path: Path) -> None:
    with run_hub(tmp_path) as hub:
        train_for_long(hub)
        pids = hub.pids()
        hub.process.kill()
        hub.process.wait()
        wait_until(lambda: gone(pids), timeout_s=10)


def test_a_second_up_on_the_same_storage_is_refused(running_hub: RunningHub) -> None:
    second = running_hub.manage("up", "--port", str(free_port()))
    assert second.returncode == 1
    assert f"(pid {running_hub.process.pid}) already uses" in second.stderr


def test_a_second_worker_on_the_same_storage_is_refused(running_hub: RunningHub) -> None:
    second = running_hub.manage("run_worker")
    assert second.returncode == 1
    assert "Another worker process" in second.stderr


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = manage("up", "--port", str(port), environment=hub_environment(tmp_path))
    assert refused.returncode == 1
    assert f"Port {port} of 127.0.0.1 cannot be used" in refused.stderr


def test_a_taken_second_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        environment = hub_environment(tmp_path, HUB_OLLAMA_PORT=port)
        refused = manage("up", "--port", str(free_port()), environment=environment)
    assert refused.returncode == 1
    assert f"Port {port} of 127.0.0.1 cannot be used" in refused.stderr
    assert "HUB_OLLAMA_PORT" in refused.stderr


def test_ollamas_port_has_its_api_at_the_root(running_hub: RunningHub) -> None:
    url = f"http://127.0.0.1:{running_hub.environment['HUB_OLLAMA_PORT']}"
    httpx.post(f"{running_hub.url}/api/bases", json={"source": "starter"})
    client = ollama.Client(host=url)
    listed = client.list().models
    assert [model.model for model in listed if model.details.parent_model == ""]
    name = listed[-1].model
    asked: Any = [{"role": "user", "content": "Lunch with Ana"}]
    said = client.chat(name, asked, options={"num_predict": 8}).message.content
    assert said
    client._client.close()
    assert httpx.get(url).text == "Ollama is running"
    with OpenAI(base_url=f"{url}/v1", api_key="any") as openai:  # as at Ollama
        same = openai.chat.completions.create(model=name, messages=asked, max_tokens=8)
    assert same.choices[0].message.content == said
    for path in ("/models/", "/api/models", "/admin/"):
        assert httpx.get(f"{url}{path}").status_code != 200
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert httpx.get(f"{url}/ws/inference", headers=handshake).status_code == 403
    assert httpx.get(f"{running_hub.url}/").text != "Ollama is running"


def test_another_address_needs_allowed_hosts(tmp_path: Path) -> None:
    refused = manage("up", "--host", "0.0.0.0", environment=hub_environment(tmp_path))
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "HUB_ALLOWED_HOSTS" in refused.stderr


def test_another_address_needs_a_token(tmp_path: Path) -> None:
    with own_database() as database:
        environment = hub_environment(tmp_path, HUB_ALLOWED_HOSTS="hub.example", **database)
        put_hub_store(tmp_path / "hub.sqlite3")
        port = str(free_port())
        refused = manage("up", "--host", "0.0.0.0", "--port", port, environment=environment)
        assert refused.returncode == 1
        assert "manage.py create_token" in refused.stderr


def test_a_created_token_is_printed_once(running_hub: RunningHub) -> None:
    made = running_hub.manage("create_token", "laptop", "--scope", "manage")
    assert made.stdout.startswith("hub-")
    again = running_hub.manage("create_token", "laptop")
    assert again.returncode == 1
    assert "choose another name" in again.stderr
