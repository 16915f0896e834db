"""The hub as a service: what systemd and launchd are given, and the commands they get."""

from __future__ import annotations

import os
import plistlib
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from hub.config import ENV_FILES, HOME, Config, config
from hub.management.commands.install_service import Command as InstallService
from hub.management.commands.up import LogFile
from hub.processes import service

pytestmark = pytest.mark.any_database


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, and a systemctl and launchctl that write down their arguments."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("systemctl", "launchctl"):
        script = programs / name
        script.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/told\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path


def told(home: Path) -> list[str]:
    return (home / "told").read_text().splitlines()


def test_the_unit_says_all_that_a_service_needs() -> None:
    text = service.unit(Config(storage=Path('/data/50 % "x"'), drain_s=20))
    lines = text.splitlines()
    assert f'ExecStart="{sys.executable}" "{HOME}/manage.py" "up"' in lines
    assert 'Environment="HUB_STORAGE=/data/50 %% \\"x\\""' in lines
    assert f'Environment="HUB_ENV_FILE={ENV_FILES[0]}"' in lines
    assert "TimeoutStopSec=32" in lines
    assert {"NoNewPrivileges=yes", "RestrictNamespaces=yes", "UMask=0077"} <= set(lines)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    file = tmp_path / "mlx-model-hub.service"
    file.write_text(service.unit(config))
    command = ["systemd-analyze", "--user", "verify", "--man=no", str(file)]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert [line for line in done.stderr.splitlines() if file.name in line] == []


def test_the_agent_is_a_property_list_that_keeps_the_hub_running(home: Path) -> None:
    agent = plistlib.loads(service.agent(config))
    assert agent["ProgramArguments"] == [sys.executable, f"{HOME}/manage.py", "up"]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["RunAtLoad"] is True
    variables = agent["EnvironmentVariables"]
    assert variables["HUB_STORAGE"] == str(config.storage)
    assert variables["HUB_LOG_FILE"] == f"{home}/Library/Logs/mlx-model-hub/hub.log"


def test_it_is_installed_and_removed_on_linux(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HUB_PORT", "9000")
    file = home / ".config" / "systemd" / "user" / "mlx-model-hub.service"
    call_command("install_service", "--print")
    assert not file.exists()
    assert capsys.readouterr().out == service.unit(config) + "\n" * (
        not service.unit(config).endswith("\n")
    )
    call_command("install_service")
    assert file.read_text() == service.unit(config)
    said = capsys.readouterr().out
    assert "Set in this shell only, so not for the service:" in said
    assert "HUB_PORT" in said
    call_command("uninstall_service")
    assert not file.exists()
    assert told(home) == [
        "systemctl --user daemon-reload",
        "systemctl --user enable mlx-model-hub.service",
        "systemctl --user restart mlx-model-hub.service",
        "systemctl --user disable --now mlx-model-hub.service",
        "systemctl --user daemon-reload",
    ]
    with pytest.raises(CommandError, match="There is no service"):
        call_command("uninstall_service")


def test_it_is_installed_and_removed_on_a_mac(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    file = home / "Library" / "LaunchAgents" / "mlx-model-hub.plist"
    call_command("install_service")
    assert plistlib.loads(file.read_bytes())["Label"] == "mlx-model-hub"
    assert (home / "Library" / "Logs" / "mlx-model-hub").is_dir()
    call_command("uninstall_service")
    domain = f"gui/{os.getuid()}"
    assert told(home) == [
        f"launchctl bootout {domain}/mlx-model-hub",
        f"launchctl bootstrap {domain} {file}",
        f"launchctl bootout {domain}/mlx-model-hub",
    ]


def test_what_cannot_be_started_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    (home / "bin" / "systemctl").write_text(
        "#!/bin/sh\necho Failed to connect to bus >&2\nexit 1\n"
    )
    with pytest.raises(CommandError, match="daemon-reload` failed: Failed to connect to bus"):
        call_command("install_service")
    monkeypatch.setattr(sys, "prefix", "/home/me/.cache/uv/archive-v0/abc")
    with pytest.raises(CommandError, match="uv tool install"):
        call_command(InstallService())


def test_a_log_file_is_put_aside_when_it_has_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.management.commands.up._LOG_BYTES", 60)
    monkeypatch.setattr("hub.management.commands.up._LOGS_KEPT", 2)
    path = tmp_path / "logs" / "hub.log"
    write = LogFile(path)
    for number in range(9):
        write("web", f"line {number} is 100 % whole")
    write("engine", '{"event": "as it is"}')
    write.close()
    kept = sorted(file.name for file in path.parent.iterdir())
    assert kept == ["hub.log", "hub.log.1", "hub.log.2"]
    assert path.read_text().splitlines()[-1] == '{"event": "as it is"}'
    assert (
        "       web | line 8 is 100 % whole"
        in (path.parent / "hub.log.1").read_text() + path.read_text()
    )
