"""Settings: all documented, and rejected with one line when invalid."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hub.config import ROOT, Config, load

EXAMPLE = Path(__file__).parents[2] / ".env.example"
ELSEWHERE = {"OTEL_EXPORTER_OTLP_ENDPOINT", "POSTGRES_PASSWORD", "GRAFANA_PASSWORD"}


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
