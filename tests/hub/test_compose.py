"""The optional services: valid, pinned, on loopback, and scraping metrics that exist."""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from hub.config import config
from hub.models import SystemSample
from hub.monitoring.metrics import HubCollector
from registry.models import BaseModel, Dataset, Model
from tests.running import ROOT, RunningHub
from training.models import TrainingJob, TrainingMetric

pytestmark = pytest.mark.any_database

COMPOSE = ROOT / "docker-compose.yml"
DEPLOY = ROOT / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES = DEPLOY / "prometheus" / "rules.yml"
METRIC = re.compile(r"\b(?:hub|django)_[a-z0-9_]+\b")


class ComposeLoader(yaml.SafeLoader):
    """Reads Compose's own tags: `!reset` empties what the first file says."""


ComposeLoader.add_constructor("!reset", lambda loader, node: [])


def services() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())["services"]  # type: ignore[no-any-return]


def expressions() -> list[str]:
    """Every query of every dashboard and rule."""
    found = [rule["expr"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]]
    for file in DASHBOARDS:
        dashboard = json.loads(file.read_text())
        queries = [v["query"] for v in dashboard["templating"]["list"] if v["type"] == "query"]
        found += [query["query"] for query in queries]
        found += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return found


def check_schema(file: Path) -> str:
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.compose-spec", str(file)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if checked.returncode == 0 else checked.stdout + checked.stderr


def test_the_file_fits_the_compose_schema() -> None:
    assert check_schema(COMPOSE) == ""


def test_the_file_for_linux_fits_it_too(tmp_path: Path) -> None:
    override = yaml.load((DEPLOY / "compose.linux.yml").read_text(), ComposeLoader)
    assert set(override["services"]) <= set(services())
    plain = tmp_path / "compose.yml"
    plain.write_text(yaml.safe_dump(override))
    assert check_schema(plain) == ""


def has_compose() -> bool:
    """Whether Docker's client can read compose files; that needs no engine."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "files",
    [["docker-compose.yml"], ["docker-compose.yml", "deploy/compose.linux.yml"]],
    ids=["macOS", "Linux"],
)
def test_dockers_own_client_understands_it(files: list[str]) -> None:
    if not has_compose():
        pytest.skip("docker compose is not installed")
    read = subprocess.run(
        ["docker", "compose", *(f"--file={file}" for file in files), "config", "--format=json"],
        cwd=ROOT,
        env={**os.environ, "POSTGRES_PASSWORD": "one", "GRAFANA_PASSWORD": "two"},
        capture_output=True,
        text=True,
    )
    assert read.returncode == 0, read.stderr
    assert set(json.loads(read.stdout)["services"]) == set(services())


@pytest.mark.parametrize("name", ["postgres", "mlflow", "prometheus", "grafana"])
class TestServices:
    def test_the_image_is_pinned(self, name: str) -> None:
        tag = services()[name]["image"].rpartition(":")[2]
        assert re.match(r"v?\d+\.\d+", tag)

    def test_only_this_machine_reaches_it(self, name: str) -> None:
        assert all(port.startswith("127.0.0.1:") for port in services()[name]["ports"])

    def test_it_has_a_health_check(self, name: str) -> None:
        assert services()[name]["healthcheck"]["test"]

    def test_its_data_has_a_named_volume(self, name: str) -> None:
        volumes = yaml.safe_load(COMPOSE.read_text())["volumes"]
        named = [volume.partition(":")[0] for volume in services()[name]["volumes"]]
        assert name in named
        assert name in volumes

    def test_a_password_has_no_default(self, name: str) -> None:
        environment = services()[name].get("environment", {})
        passwords = [value for key, value in environment.items() if "PASSWORD" in key]
        assert all(re.match(r"\$\{[A-Z_]+:\?", value) for value in passwords)


def test_mlflow_is_the_release_of_the_hubs_client() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = next(pin for pin in project["dependencies"] if pin.startswith("mlflow=="))
    assert services()["mlflow"]["image"].endswith(f":v{pinned.partition('==')[2]}")


def test_every_mounted_file_exists() -> None:
    for service in services().values():
        for volume in service["volumes"]:
            if volume.startswith("./"):
                assert (ROOT / volume.partition(":")[0]).exists(), volume


def test_grafana_is_given_the_dashboards_datasource() -> None:
    provisioned = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )
    uids = {source["uid"] for source in provisioned["datasources"]}
    for file in DASHBOARDS:
        dashboard = json.loads(file.read_text())
        source = dashboard["templating"]["list"][0]
        assert (source["type"], source["current"]["value"] in uids) == ("datasource", True)
        used = {panel["datasource"]["uid"] for panel in dashboard["panels"]}
        assert used == {f"${{{source['name']}}}"}


def test_the_dashboards_and_rules_are_those_of_their_tables() -> None:
    made = subprocess.run(
        [sys.executable, ".ci/dashboards"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.stderr == ""
    assert len(DASHBOARDS) == 4


def test_every_panel_says_what_it_shows_and_names_only_variables_that_exist() -> None:
    for file in DASHBOARDS:
        dashboard = json.loads(file.read_text())
        known = {one["name"] for one in dashboard["templating"]["list"]} | {"__rate_interval"}
        places = set()
        for panel in dashboard["panels"]:
            assert panel["description"].endswith("."), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            used = set(re.findall(r"\$\{?(\w+)", json.dumps(panel["targets"])))
            assert used <= known, panel["title"]
            place = panel["gridPos"]
            places.add((place["x"], place["y"]))
            assert place["x"] + place["w"] <= 24
        assert len(places) == len(dashboard["panels"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_the_rules_pass_their_own_tests() -> None:
    tested = subprocess.run(
        ["promtool", "test", "rules", "rules.test.yml"],
        cwd=RULES.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_grafana_finds_the_dashboards_where_compose_mounts_it() -> None:
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/hub.yml").read_text())
    folder = provider["providers"][0]["options"]["path"]
    assert f"./deploy/grafana/dashboards:{folder}:ro" in services()["grafana"]["volumes"]


def test_prometheus_scrapes_a_host_that_the_hub_answers(running_hub: RunningHub) -> None:
    scrape = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"][0]
    target = scrape["static_configs"][0]["targets"][0]
    url = f"{running_hub.url}{scrape['metrics_path']}"
    assert httpx.get(url, headers={"Host": target}, timeout=10).status_code == 200


def exported_by(running_hub: RunningHub) -> set[str]:
    """Every name that a real hub's /metrics announces, after some traffic."""
    base = {"source": "starter"}
    with httpx.Client(base_url=running_hub.url, timeout=60) as client:
        name = client.post("/api/bases", json=base).raise_for_status().json()["name"]
        body = {
            "model": f"base:{name}",
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 8,
        }
        client.post("/v1/chat/completions", json=body).raise_for_status()
        text = client.get("/metrics").text
    families = {family.name: family.type for family in text_string_to_metric_families(text)}
    names = set(families)
    for family, kind in families.items():
        if kind == "counter":
            names.add(f"{family}_total")
        if kind == "histogram":
            names |= {f"{family}_bucket", f"{family}_sum", f"{family}_count"}
    return names


def exported_while_training() -> set[str]:
    """What the hub's collector adds while a job runs and the machine has a GPU."""
    base = BaseModel.objects.create(
        name="base", source="starter", path="base/x", manifest_sha256="0" * 64, size_bytes=1
    )
    model = Model.objects.create(name="model", base_model=base)
    dataset = Dataset.objects.create(
        name="data", path="datasets/x", checksum="0" * 64, format="chat"
    )
    job = TrainingJob.objects.create(
        model=model,
        dataset=dataset,
        config={},
        status="running",
        lease="00000000-0000-0000-0000-000000000001",
        tokens_per_second=10,
        peak_memory_bytes=1,
    )
    TrainingMetric.objects.create(job=job, iteration=1, train_loss=2.0, val_loss=2.5)
    SystemSample.objects.create(
        cpu_percent=1,
        gpu_percent=2,
        memory_used_bytes=1,
        memory_total_bytes=2,
        disk_free_bytes=3,
        training_memory_bytes=4,
    )
    return {sample.name for one in HubCollector().collect() for sample in one.samples}


@pytest.mark.django_db
def test_every_metric_of_dashboards_and_rules_is_exported(
    running_hub: RunningHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scheduled = config.model_copy(update={"backup_dir": tmp_path})
    monkeypatch.setattr("hub.monitoring.metrics.config", scheduled)
    a_day = datetime.timedelta(days=1)
    monkeypatch.setattr("hub.monitoring.metrics.schedule.age", lambda place: a_day)
    wanted = {name for expression in expressions() for name in METRIC.findall(expression)}
    assert len(wanted) >= 60
    assert wanted - exported_by(running_hub) - exported_while_training() == set()
