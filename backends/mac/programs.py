"""Programs and libraries of the system, asked without a terminal and without root."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

_GIT = "/usr/bin/git"


def printed(*command: str) -> str:
    """What the command wrote to its output; empty when it is missing, hangs or is not text."""
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        answer = subprocess.run(
            command, capture_output=True, timeout=2, text=True, check=False, errors="replace"
        )
        return answer.stdout
    return ""


def library() -> ctypes.CDLL:
    """The C library of this process, on macOS with everything in libSystem."""
    return ctypes.CDLL(None, use_errno=True)


@cache
def has_git() -> bool:
    """Whether git may be asked. Without Apple's command line tools a Mac's own `git` only opens a
    dialog that offers to install them; `xcode-select -p` says without one whether they are there."""
    program = shutil.which("git")
    if program is None:
        return False
    if sys.platform != "darwin" or program != _GIT:
        return True
    tools = printed("xcode-select", "-p").strip()
    return bool(tools) and (Path(tools) / "usr" / "bin" / "git").exists()


def system_version() -> tuple[int, ...]:
    """macOS's version, such as (26, 1); empty elsewhere. Python's own `mac_ver` says 16 on macOS 26
    where it was built with an older SDK."""
    said = printed("sw_vers", "-productVersion").strip() or platform.mac_ver()[0]
    parts = said.split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def is_apple_silicon() -> bool:
    """Whether this Mac has Apple's own processor, whatever this process was built for."""
    return printed("sysctl", "-in", "hw.optional.arm64").strip() == "1"
