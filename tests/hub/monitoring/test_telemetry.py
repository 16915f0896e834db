"""Traces: none until an endpoint is set, and then real ones, over OTLP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from hub.management import overview
from hub.monitoring import pushed, telemetry
from tests.otlp import Receiver, line, numbers, plain, receiving
from tests.running import RunningHub, run_hub, wait_until

pytestmark = pytest.mark.any_database


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def test_without_an_endpoint_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert not telemetry.wanted()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1/v1/traces")
    assert telemetry.wanted()


def test_metrics_are_sent_only_where_that_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
    for name in ("OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", endpoint):
        monkeypatch.delenv(name, raising=False)
    assert not pushed.wanted()
    monkeypatch.setenv(endpoint, "http://127.0.0.1:1")
    assert not pushed.wanted(), "it was set for traces alone"
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    assert pushed.wanted()
    monkeypatch.delenv("OTEL_METRICS_EXPORTER")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://127.0.0.1:1/v1/metrics")
    assert pushed.wanted()
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    assert not pushed.wanted()


def test_a_counter_that_falls_counts_from_then_on() -> None:
    """The engine's, when it was started again."""
    registry, series = CollectorRegistry(), pushed.Series()
    counter = Counter("engine_tokens", "Tokens", registry=registry)

    def since() -> int:
        [resource] = series.data(registry.collect()).resource_metrics
        [metric] = resource.scope_metrics[0].metrics
        [point] = metric.data.data_points
        return int(point.start_time_unix_nano)

    counter.inc(5)
    began = since()
    counter.inc(5)
    assert since() == began
    counter.reset()
    assert since() > began


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[RunningHub]:
    environment: dict[str, Any] = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "HUB_FAKE_TOKENS_PER_SECOND": "200",
        "HUB_FAKE_REPLY_WORDS": "500",
        "HUB_TRACE_URL": "http://traces.example/{trace_id}",
    }
    with run_hub(tmp_path_factory.mktemp("traced"), with_mlflow=True, **environment) as hub:
        post(hub, "/api/bases", {"source": "starter"})
        yield hub


def post(hub: RunningHub, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(f"{hub.url}{path}", json=body, timeout=60).raise_for_status()
    return answer.json()  # type: ignore[no-any-return]


def chat(hub: RunningHub, traceparent: str, words: int = 20, leave: bool = False) -> None:
    """Stream an answer, to its end or to its first piece."""
    [base] = httpx.get(f"{hub.url}/api/bases", timeout=10).json()["items"]
    body = {
        "model": f"base:{base['name']}",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": words,
        "stream": True,
    }
    url, headers = f"{hub.url}/v1/chat/completions", {"traceparent": traceparent}
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as answer:
        for _ in answer.iter_lines():
            if leave:
                break


def test_one_trace_from_a_request_to_its_last_token(hub: RunningHub, receiver: Receiver) -> None:
    ids = [uuid.uuid4().hex for _ in range(4)]
    client = "b7ad6b7169203331"
    for number, trace_id in enumerate(ids):
        chat(hub, f"00-{trace_id}-{client}-01", words=20 + 100 * number, leave=number > 1)
    wait_until(
        lambda: all({"web", "engine"} <= {s.service for s in receiver.trace(one)} for one in ids)
    )
    for number, trace_id in enumerate(ids):
        wait_until(partial(is_whole, receiver, trace_id))
        spans = receiver.trace(trace_id)
        named = {span.name: span for span in spans}
        http, talk = named["POST /v1/chat/completions"], named["chat base:SmolLM2-135M-Instruct"]
        engine = named["engine generate"]
        assert (http.parent_id, talk.parent_id, engine.parent_id) == (
            client,
            http.span_id,
            talk.span_id,
        )
        parts = [span for span in spans if span.parent_id == engine.span_id]
        came = {"queue", "prefill"} | ({"decode"} if number < 2 else set())  # tokens at all
        assert came <= {span.name for span in parts}
        assert http.began <= talk.began <= engine.began
        assert talk.ended <= http.ended, "the request ends with its stream"
        assert http.attributes["http.request.method"] == "POST"
        assert http.attributes["http.route"] == "/v1/chat/completions"
        assert http.attributes["http.response.status_code"] == 200
        assert talk.attributes["gen_ai.operation.name"] == "chat"
        outcome = "cancelled" if number > 1 else "completed"
        assert talk.attributes["hub.outcome"] == outcome, number
        assert engine.attributes.get("hub.outcome", "completed") == outcome
        assert {span.version for span in spans} == {overview.version()}
        insert = next(span for span in spans if span.name.startswith("INSERT"))
        assert insert.attributes["db.operation.name"] == "INSERT"
        assert insert.attributes["db.query.text"].startswith("INSERT INTO")
    last = receiver.trace(ids[1])
    decode = next(span for span in last if span.name == "decode")
    assert decode.attributes["gen_ai.usage.output_tokens"] > 20
    assert (decode.ended - decode.began) / 1e9 > 0.9 * decode.attributes[
        "gen_ai.usage.output_tokens"
    ] / 200, "it lasts as long as its tokens"
    rows = httpx.get(f"{hub.url}/api/requests", timeout=10).json()["items"]
    assert {row["trace_id"] for row in rows} == set(ids)
    assert rows[0]["trace_url"] == f"http://traces.example/{ids[-1]}"
    assert f'href="http://traces.example/{ids[0]}"' in httpx.get(f"{hub.url}/requests/").text


def is_whole(receiver: Receiver, trace_id: str) -> bool:
    spans = receiver.trace(trace_id)
    known = {span.span_id for span in spans}
    missing = [span for span in spans if span.parent_id not in {*known, "b7ad6b7169203331", ""}]
    names = {span.name.partition(" ")[0] for span in spans}
    # A client that leaves does not wait for its row in the request log.
    return not missing and {"POST", "chat", "engine", "INSERT"} <= names


def test_one_trace_of_a_job_from_its_request_to_its_version(
    hub: RunningHub, receiver: Receiver
) -> None:
    [base] = httpx.get(f"{hub.url}/api/bases", timeout=10).json()["items"]
    model = post(hub, "/api/models", {"name": "traced", "base_model": base["name"]})
    examples = [{"prompt": f"say {number}", "completion": str(number)} for number in range(40)]
    data = post(hub, "/api/datasets", {"name": "traced", "examples": examples})
    body = {"model_id": model["id"], "dataset_id": data["id"], "config": {"iters": 10, "warmup": 0}}
    job = post(hub, "/api/training/jobs", body)

    def done() -> bool:
        url = f"{hub.url}/api/training/jobs/{job['id']}"
        return bool(httpx.get(url, timeout=10).json()["status"] == "completed")

    wait_until(done, timeout_s=120)
    wait_until(lambda: any(span.name == "train traced" for span in receiver.spans()))
    [train] = [span for span in receiver.spans("background") if span.name == "train traced"]
    spans = receiver.trace(train.trace_id)
    named = {span.name: span for span in spans}
    posted, attempt = named["POST /api/training/jobs"], named["attempt"]
    assert posted.service == "web"
    assert train.parent_id == named["queue"].parent_id
    assert train.parent_id in {span.span_id for span in spans if span.service == "web"}
    assert (attempt.service, attempt.parent_id) == ("job", train.span_id)
    phases = [span for span in spans if span.parent_id == attempt.span_id]
    expected = {"starting", "verifying", "preparing", "training", "publishing", "scoring"}
    assert expected <= {span.name for span in phases}
    assert train.attributes["hub.status"] == "completed"
    log = (hub.storage / "jobs" / str(job["id"]) / "log.txt").read_text()
    assert f'"trace_id": "{train.trace_id}"' in log
    seconds = httpx.get(f"{hub.url}/metrics", timeout=10).text
    assert 'hub_job_duration_seconds_count{outcome="completed"} 1.0' in seconds
    for phase in expected:
        assert f'hub_job_phase_duration_seconds_count{{phase="{phase}"}} 1.0' in seconds
    assert "hub_training_steps_total 10.0" in seconds


def test_metrics_are_sent_as_they_are_scraped(hub: RunningHub, receiver: Receiver) -> None:
    def scraped() -> dict[str, float]:
        text = httpx.get(f"{hub.url}/metrics", timeout=10).text
        families = text_string_to_metric_families(text)
        return {line(s.name, s.labels): s.value for family in families for s in family.samples}

    agreed = set[str]()

    agreed = set[str]()

    def agree() -> bool:
        """What rests has been sent with its value; time, memory and the question itself go on."""
        before, sent, now = scraped(), numbers(receiver.metrics[-1]), scraped()
        resting = {name for name in now if before.get(name) == now[name]}
        agreed.update(name for name in resting if sent.get(name) == now[name])
        return resting <= agreed and sent.keys() == now.keys()

    wait_until(lambda: receiver.metrics)
    wait_until(agree, timeout_s=60)
    resource = plain(receiver.metrics[-1].resource.attributes)
    assert resource["service.name"] == "mlx-model-hub-web"
    assert resource["service.version"] == overview.version()


def test_what_nobody_asked_for_is_no_trace(hub: RunningHub, receiver: Receiver) -> None:
    """The worker and the sampler look into the database all the time, and probes come for ever."""
    assert {span.name for span in receiver.spans("background")} <= {
        *("queue", "train traced"),
        "update MLflow",  # only when there was something to send
    }
    assert not [span for span in receiver.spans() if "health" in span.name]
    roots = {span.name.split(" ")[0] for span in receiver.spans() if not span.parent_id}
    assert roots <= {"GET", "POST", "update"}
    assert "different Context" not in hub.log.read_text()
