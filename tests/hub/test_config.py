"""Settings: all documented, and rejected with one line when invalid."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backends import devices
from backends.mac import memory
from hub import config
from hub.config import ROOT, Config, load
from hub.monitoring import doctor
from registry.storage.sizes import GB

EXAMPLE = Path(__file__).parents[2] / ".env.example"
ELSEWHERE = {
    *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_METRICS_EXPORTER", "OTEL_METRIC_EXPORT_INTERVAL"),
    *("POSTGRES_PASSWORD", "GRAFANA_PASSWORD"),
}


def documented() -> dict[str, str]:
    """Names in `.env.example`, with the value that is shown."""
    return dict(re.findall(r"^# ([A-Z][A-Z0-9_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))


def test_every_setting_is_documented() -> None:
    names = {f"HUB_{name.upper()}" for name in Config.model_fields}
    assert names - set(documented()) == set()


def test_every_documented_setting_exists() -> None:
    names = {f"HUB_{name.upper()}" for name in Config.model_fields}
    assert set(documented()) - names == ELSEWHERE


def test_the_documented_values_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Config.model_fields:
        monkeypatch.delenv(f"HUB_{name.upper()}", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    default = Config()
    for name, value in documented().items():
        if name not in ELSEWHERE:
            monkeypatch.setenv(name, value)
    assert Config() == default


def test_an_invalid_value_stops_the_start_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HUB_PORT", "80000")
    with pytest.raises(SystemExit) as ended:
        load()
    assert ended.value.code == 2
    assert re.fullmatch(r"HUB_PORT: .*65535\.\n", capsys.readouterr().err)


def test_options_take_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_PORT", "8001")
    assert load(port=8002).port == 8002


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("fd00::1", "http://[fd00::1]:8000"),
        ("hub.example", "http://hub.example:8000"),
    ],
)
def test_the_address_from_this_machine(host: str, url: str) -> None:
    assert Config(host=host, port=8000, allowed_hosts="hub.example").url == url


def test_without_a_number_the_budget_is_what_the_machine_can_spare(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "video_memory", lambda: None)
    monkeypatch.setattr(memory, "default_budget", lambda: 7 * GB)
    assert Config(memory_budget_gb=None).memory_budget_bytes == 7 * GB


def test_zero_is_no_second_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not even where `.env` has one."""
    file = tmp_path / ".env"
    file.write_text("HUB_OLLAMA_PORT=11434\n")
    monkeypatch.delenv("HUB_OLLAMA_PORT", raising=False)
    assert Config(_env_file=file).ollama_port == 11434
    monkeypatch.setenv("HUB_OLLAMA_PORT", "0")
    assert Config(_env_file=file).ollama_port is None


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"HUB_ALLOWED_HOSTS": "*"}, "rebinding"),
        ({"HUB_PORT": "8001", "HUB_OLLAMA_PORT": "8001"}, "both 8001"),
        ({"HUB_HOST": "0.0.0.0", "HUB_ALLOWED_HOSTS": "hub.example", "HUB_DEBUG": "true"}, "DEBUG"),
    ],
)
def test_a_guard_is_not_switched_off(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    values: dict[str, str],
    reason: str,
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        load()
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1


def test_hosts_are_added_to_this_machines_own_names() -> None:
    code = "import hub.settings; print(hub.settings.ALLOWED_HOSTS)"
    env = {**os.environ, "HUB_ALLOWED_HOSTS": "host.docker.internal", "HUB_ENV_FILE": os.devnull}
    found = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "['127.0.0.1', 'localhost', '[::1]', 'host.docker.internal']"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HUB_DATABASE_URL", "postgres://", "names no server or no database"),
        ("HUB_DATABASE_URL", "postgres://user@host", "names no server or no database"),
        ("HUB_DATABASE_URL", "postgres://host:port/name", "names no server or no database"),
        ("HUB_MLFLOW_TRACKING_URI", "http//host:5000", "is no address of a server"),
        ("HUB_MLFLOW_TRACKING_URI", "http://[host", "is no address of a server"),
    ],
)
def test_half_an_address_is_refused(
    name: str,
    value: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        load()
    assert re.fullmatch(f"{name}: {said}.*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    "url",
    ["postgres://u:p@host:5432/hub", "postgres:///hub?host=/run/postgresql", "sqlite:////tmp/x"],
)
def test_whole_addresses_are_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", url)
    assert load().database_url == url


def test_a_misspelt_setting_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HUB_PROT", "9000")
    with pytest.raises(SystemExit) as ended:
        load()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "HUB_PROT: is no setting; did you mean HUB_PORT?\n"


def test_another_programs_variable_is_told_and_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_PROTOCOL", "ssh")  # of GitHub's old command line
    assert load().port
    [finding] = doctor._settings()
    assert finding.state == "warning"
    assert finding.found == "not known and ignored: HUB_PROTOCOL"


def test_every_variable_in_the_code_is_known() -> None:
    settings = {f"HUB_{name.upper()}" for name in Config.model_fields}
    code = [
        path.read_text()
        for folder in ("hub", "registry", "training", "inference", "backends")
        for path in (ROOT / folder).rglob("*.py")
    ]
    named = {name for text in code for name in re.findall(r'"(HUB_[A-Z_]+[A-Z])"', text)}
    assert {name for name in named - settings if not config._OTHERS.fullmatch(name)} == set()


def test_processes_that_start_at_once_agree_on_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def slowly(path: Path, text: str) -> int:
        path.touch()
        time.sleep(0.05)
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", slowly)
    settings = Config(storage=tmp_path / "new", secret_key="")
    with ThreadPoolExecutor(4) as processes:
        secrets = {
            one.result() for one in [processes.submit(settings.stored_secret_key) for _ in range(4)]
        }
    [secret] = secrets
    assert len(secret) > 40
    assert settings.stored_secret_key() == secret
    [kept] = settings.storage.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_secret_that_was_never_written_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "secret_key").touch()
    made = Config(storage=tmp_path, secret_key="").stored_secret_key()
    assert made
    assert made == (tmp_path / "secret_key").read_text()
