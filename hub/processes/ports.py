"""Whether the hub can have a port, and who has it otherwise."""

from __future__ import annotations

import socket
import sys

_AIRPLAY = (5000, 7000)
"""macOS's AirPlay Receiver listens on both, on every address, from the first start of a Mac."""


def answers(host: str, port: int) -> bool:
    """Whether a program takes connections there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


def obstacle(host: str, port: int) -> str | None:
    """Why the hub cannot listen at `host` and `port`, in one phrase; None when it can.

    macOS lets a program take 127.0.0.1 from another one that has the same port on all addresses;
    `localhost` would then lead to either of them. So a port that answers is taken, whatever `bind`
    says.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        _bind(family, kind, protocol, address)
        if not answers(host, port):
            return None
        reason = "Address already in use"
    except OSError as error:
        reason = error.strerror or str(error)
    return "macOS's AirPlay Receiver listens there" if _is_airplays(port) else reason


def remedy(port: int, setting: str = "HUB_PORT") -> str:
    """What to do when another program has the port that `setting` names."""
    own = setting == "HUB_PORT"
    if _is_airplays(port):
        other = f"--port {port + 1} or {setting}={port + 1}" if own else f"{setting}={port + 1}"
        return (
            f"Choose another port, such as {other}, or turn AirPlay Receiver off in System Settings "
            "› General › AirDrop & Handoff."
        )
    ways = f"--port or {setting}" if own else setting
    return f"Stop the program that uses it, or choose another port with {ways}."


def _is_airplays(port: int) -> bool:
    return sys.platform == "darwin" and port in _AIRPLAY


def _bind(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> None:
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will
        probe.bind(address)
