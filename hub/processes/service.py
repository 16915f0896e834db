"""The hub as a service of the user's own: a systemd unit on Linux, a launchd agent on a Mac."""

from __future__ import annotations

import os
import plistlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from hub.config import ENV_FILES, HOME, Config

NAME = "mlx-model-hub"
_STOP_S = 12  # beyond the drain: see `Supervisor.stop`
_OTHERS = ("DATABASE_URL", "MLFLOW_TRACKING_URI", "OTEL_EXPORTER_OTLP_ENDPOINT")
# What needs no namespaces: many systems give a user's own services none.
_UNIT = """\
[Unit]
Description=MLX Model Hub

[Service]
Type=exec
ExecStart={command}
WorkingDirectory={folder}
{environment}
Restart=on-failure
RestartSec=5
KillMode=mixed
TimeoutStopSec={stop_s}
LimitNOFILE=65536
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native

[Install]
WantedBy=default.target
"""


def command() -> list[str]:
    return [sys.executable, str(HOME / "manage.py"), "up"]


def environment(config: Config) -> dict[str, str]:
    """What a service has to be told: it has no shell, and no folder that it was started in."""
    files = [str(file.absolute()) for file in ENV_FILES]
    return {"HUB_STORAGE": str(config.storage), "HUB_ENV_FILE": os.pathsep.join(files)}


def left_out(given: Mapping[str, str]) -> list[str]:
    """Settings of this shell that a service would not have."""
    ours = {name for name in given if name.startswith("HUB_") and given[name]}
    return sorted(
        ours - {"HUB_STORAGE", "HUB_ENV_FILE"} | {name for name in _OTHERS if given.get(name)}
    )


def unit(config: Config) -> str:
    """The systemd unit."""
    variables = environment(config).items()
    return _UNIT.format(
        command=" ".join(_quoted(word).replace("$", "$$") for word in command()),
        folder=str(HOME).replace("%", "%%"),
        environment="\n".join(f"Environment={_quoted(f'{k}={v}')}" for k, v in variables),
        stop_s=round(config.drain_s) + _STOP_S,
    )


def _quoted(text: str) -> str:
    for special in ("\\", '"'):
        text = text.replace(special, f"\\{special}")
    return f'"{text.replace("%", "%%")}"'


def agent(config: Config) -> bytes:
    """The launchd agent's property list. launchd rotates no logs, so `up` does."""
    logs = Path.home() / "Library" / "Logs" / NAME
    return plistlib.dumps(
        {
            "Label": NAME,
            "ProgramArguments": command(),
            "WorkingDirectory": str(HOME),
            "EnvironmentVariables": {
                **environment(config),
                "HUB_LOG_FILE": str(config.log_file or logs / "hub.log"),
            },
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 10,
            "ExitTimeOut": round(config.drain_s) + _STOP_S,
            "ProcessType": "Interactive",  # others get less of the processor and the disk
            "Umask": 0o077,
            "SoftResourceLimits": {"NumberOfFiles": 65536},
            "StandardErrorPath": str(logs / "start.log"),
        }
    )


def place() -> Path:
    """Where the unit or agent is."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "LaunchAgents" / f"{NAME}.plist"
    configured = os.environ.get("XDG_CONFIG_HOME")
    config = Path(configured) if configured else Path.home() / ".config"
    return config / "systemd" / "user" / f"{NAME}.service"


def text(config: Config) -> str:
    return agent(config).decode() if sys.platform == "darwin" else unit(config)


def install(config: Config) -> None:
    """Write the file and start the service, now and whenever the user logs in. Raises OSError and
    CalledProcessError; a service that runs is replaced."""
    file = place()
    file.parent.mkdir(parents=True, exist_ok=True)
    if sys.platform == "darwin":
        (Path.home() / "Library" / "Logs" / NAME).mkdir(mode=0o700, parents=True, exist_ok=True)
        _tell("launchctl", "bootout", f"{_domain()}/{NAME}", may_fail=True)
        file.write_text(text(config))
        _tell("launchctl", "bootstrap", _domain(), str(file))
        return
    file.write_text(text(config))
    _tell("systemctl", "--user", "daemon-reload")
    _tell("systemctl", "--user", "enable", file.name)
    _tell("systemctl", "--user", "restart", file.name)


def uninstall() -> bool:
    """Stop the service and remove its file; False when there is none. Raises as `install`."""
    file = place()
    if not file.exists():
        return False
    if sys.platform == "darwin":
        _tell("launchctl", "bootout", f"{_domain()}/{NAME}", may_fail=True)
        file.unlink()
        return True
    _tell("systemctl", "--user", "disable", "--now", file.name, may_fail=True)
    file.unlink()
    _tell("systemctl", "--user", "daemon-reload", may_fail=True)
    return True


def _domain() -> str:
    return f"gui/{os.getuid()}"


def _tell(*arguments: str, may_fail: bool = False) -> None:
    subprocess.run(arguments, check=not may_fail, capture_output=True, text=True)
