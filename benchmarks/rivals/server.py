"""mlx_lm.server on loopback, as a rival: the same weights, and the hub's fast BLAS.

Without that BLAS it would compute many times slower (`backends.mlx.device.prepare`), and its
threads wait as the engine's do. Nothing else of it is changed.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.rivals.bare import THREADS
from benchmarks.setup.client import Server
from benchmarks.setup.hub import ROOT, free_port

START_S = 120.0


@contextmanager
def running_rival(model: Path) -> Iterator[Server]:
    """A ready mlx_lm.server with the model folder. It ends with the block."""
    port = free_port()
    arguments = ["--model", str(model), "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.rivals.server",
                *arguments,
                "--log-level",
                "WARNING",
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **THREADS},
            stdout=log,
            stderr=log,
        )
        try:
            _wait_ready(f"http://127.0.0.1:{port}", child)
            yield Server("mlx_lm.server", f"http://127.0.0.1:{port}", "default_model")
        finally:
            child.kill()  # at SIGTERM it waits for its threads
            child.wait()


def _wait_ready(url: str, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and child.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=5).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise SystemExit("mlx_lm.server did not become ready.")


def main() -> None:
    from backends.mlx.device import prepare

    prepare()
    runpy.run_module("mlx_lm.server", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
