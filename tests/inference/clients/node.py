"""Scripts for Node, in which its clients speak to a hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import pytest


def node(script: str, *needed: str, **env: str) -> Any:
    """What a script prints at its end as JSON. Skips the test where a package is not installed."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    for package in needed:
        if _run(f"require.resolve('{package}')").returncode:
            pytest.skip(f"{package} is not installed (npm; NODE_PATH names its folder)")
    whole = f"(async () => {{{script}}})().catch((e) => {{ console.error(e); process.exit(1); }});"
    ran = _run(whole, AI_SDK_LOG_WARNINGS="false", **env)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def _run(script: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", "-e", script],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
