"""The native API over real processes: answers, streams, statistics, the request log."""

import json
from typing import Any

import httpx
import pytest

from tests.inference.processes import Hub, wait_for

PROMPT = "Lunch with Ana next Friday at noon"


@pytest.fixture
def hub(processes: Hub) -> Hub:
    wait_for(lambda: processes.stats().get("running") == 0)
    return processes


def post(hub: Hub, path: str = "/api/inference", **body: Any) -> httpx.Response:
    return httpx.post(f"{hub.url}{path}", json=body, timeout=30)


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    frames = [frame.split("\n") for frame in response.text.strip().split("\n\n")]
    assert all(len(frame) == 2 for frame in frames)
    events = [json.loads(data.removeprefix("data: ")) for _, data in frames]
    assert [name.removeprefix("event: ") for name, _ in frames] == [e["event"] for e in events]
    return events


def test_an_answer_names_version_and_base(hub: Hub) -> None:
    answer = post(hub, model="calendar", prompt=PROMPT).json()
    assert answer["answered_by"] == "calendar@0.2.0"
    assert answer["base_model"] == "tiny"
    assert answer["text"]
    assert answer["timings"]["total_ms"] >= answer["timings"]["first_token_ms"] > 0


def test_a_prompt_is_one_user_message(hub: Hub) -> None:
    short = post(hub, model="calendar", prompt=PROMPT).json()
    long = post(hub, model="calendar", messages=[{"role": "user", "content": PROMPT}]).json()
    assert short["text"] == long["text"]


def test_a_stream_starts_goes_on_and_ends(hub: Hub) -> None:
    whole = post(hub, model="base:tiny", prompt=PROMPT).json()
    response = post(hub, "/api/inference/stream", model="base:tiny", prompt=PROMPT)
    assert response.headers["Content-Type"].startswith("text/event-stream")
    started, *deltas, done = events_of(response)
    assert started["event"] == "started"
    assert started["answered_by"] == "base:tiny"
    assert {event["event"] for event in deltas} == {"delta"}
    assert "".join(event["text"] for event in deltas) == whole["text"]
    assert done["event"] == "done"
    assert done["completion_tokens"] == whole["completion_tokens"]
    assert done["timings"]["tokens_per_second"] > 0


@pytest.mark.parametrize("path", ["/api/inference", "/api/inference/stream"])
def test_an_unknown_model_is_not_found(hub: Hub, path: str) -> None:
    response = post(hub, path, model="nobody", prompt=PROMPT)
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": PROMPT},
        {"model": "calendar"},
        {"model": "calendar", "prompt": PROMPT, "messages": [{"role": "user", "content": "x"}]},
        {"model": "calendar", "prompt": PROMPT, "max_tokens": 0},
        {"model": "calendar", "prompt": PROMPT, "temprature": 1},
    ],
)
def test_what_makes_no_sense_is_refused(hub: Hub, body: dict[str, Any]) -> None:
    assert post(hub, **body).status_code == 422


def test_the_engine_tells_its_state(hub: Hub) -> None:
    stats = hub.stats()
    assert stats["pid"] == hub.engine_pid
    assert {"models", "running", "waiting", "tokens_generated", "device"} <= stats.keys()


def test_every_request_leaves_a_row_without_its_text(hub: Hub) -> None:
    answer = httpx.post(
        f"{hub.url}/api/inference",
        json={"model": "calendar@0.1.0", "prompt": PROMPT, "seed": 3},
        headers={"X-Correlation-ID": "from-the-test"},
    ).json()
    found = httpx.get(f"{hub.url}/api/requests?correlation_id=from-the-test").json()
    row = found["items"][0]
    assert found["count"] == len(found["items"])
    assert row["request_id"] == answer["id"]
    assert row["version"] == "calendar@0.1.0"
    assert (row["api"], row["status"], row["streamed"]) == ("native", "completed", False)
    assert row["params"]["seed"] == 3
    assert row["completion_tokens"] == answer["completion_tokens"]
    assert PROMPT not in json.dumps(found)


def test_the_log_is_paged_and_filtered(hub: Hub) -> None:
    post(hub, model="calendar", prompt=PROMPT)
    post(hub, model="base:tiny", prompt=PROMPT)
    page = httpx.get(f"{hub.url}/api/requests?limit=1").json()
    assert len(page["items"]) == 1
    assert page["count"] > 1
    bases = httpx.get(f"{hub.url}/api/requests?q=base:&status=completed&api=native").json()
    assert {row["requested_model"] for row in bases["items"]} == {"base:tiny"}
    assert httpx.get(f"{hub.url}/api/requests?status=nonsense").status_code == 422


def test_prometheus_counts_requests_and_tokens(hub: Hub) -> None:
    post(hub, model="calendar@0.1.0", prompt=PROMPT)
    text = httpx.get(f"{hub.url}/metrics").text
    of = 'model="calendar",version="0.1.0"'
    labels = 'api="native",code="",model="calendar",outcome="completed",version="0.1.0"'
    assert f"hub_inference_requests_total{{{labels}}}" in text
    assert f'hub_inference_tokens_total{{kind="completion",{of}}}' in text
    assert f'hub_inference_time_to_first_token_seconds_bucket{{le="0.001",{of}}}' in text
    assert f'hub_inference_time_per_output_token_seconds_bucket{{le="0.01",{of}}}' in text
    lasted = 'model="calendar",outcome="completed",version="0.1.0"'
    assert f"hub_inference_request_duration_seconds_count{{{lasted}}}" in text
    assert "_created{" not in text
