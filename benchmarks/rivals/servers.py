"""Servers that the hub is compared with, on loopback: the same weights, MLX, BLAS and waiting threads."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
import psutil

from benchmarks.rivals.bare import THREADS
from benchmarks.rivals.environments import NotInstalled, interpreter
from benchmarks.setup.client import Server
from benchmarks.setup.hub import free_port

type Weights = Literal["folder", "float32 GGUF", "Q4_1 GGUF"]

START_S = 300.0
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Rival:
    """`entry` is a function of the rival's, or a program of this folder that it runs; `arguments` may hold
    `{model}`, of the kind `weights`, and `{port}`; `package` is none for one of our own packages."""

    name: str
    entry: str
    arguments: str
    package: str | None = None
    model: str = "m"
    weights: Weights = "folder"

    def python(self) -> Path:
        """The interpreter that has it. Raises NotInstalled."""
        return interpreter(self.package) if self.package else Path(sys.executable)


MLX_LM = Rival(
    "mlx_lm.server",
    "mlx_lm.server:main",
    "--model {model} --host 127.0.0.1 --port {port} --log-level WARNING",
    model="default_model",
)
RIVALS = (
    MLX_LM,
    Rival(
        "vllm-mlx",
        "vllm_mlx.cli:main",
        "serve {model} --host 127.0.0.1 --port {port} --served-model-name m --continuous-batching",
        "vllm-mlx==0.6.0",
    ),
    Rival(
        "rapid-mlx",
        "rapid_mlx.dependency_repair:cli_entrypoint",
        "serve {model} --host 127.0.0.1 --port {port} --served-model-name m --yes",
        "rapid-mlx==0.16.10",
    ),
    Rival(
        "mlx-openai-server",
        "app.cli:cli",
        "launch --model-path {model} --model-type lm --served-model-name m --host 127.0.0.1 "
        "--port {port} --no-log-file",
        "mlx-openai-server==1.8.1",
    ),
)
_LLAMA_CPP = ("llama_cpp.py", "{model} {port} 8", "xllamacpp==2026.10.11549", "m")
LLAMA_CPP = (
    Rival("llama.cpp", *_LLAMA_CPP, weights="float32 GGUF"),
    Rival("llama.cpp, Q4_1", *_LLAMA_CPP, weights="Q4_1 GGUF"),
)
"""No rivals in MLX: they show what this machine's processor can do (`Figures.hold` with `beside`)."""


@dataclass(frozen=True)
class Running:
    server: Server
    process: psutil.Process


@contextmanager
def running(rival: Rival, model: Path) -> Iterator[Running]:
    """It serves the model folder, ready to answer, and ends with the block. Raises NotInstalled."""
    port = free_port()
    arguments = rival.arguments.format(model=model, port=port).split(" ")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "RAPID_MLX_TELEMETRY": "0", **THREADS}
    with tempfile.TemporaryDirectory(prefix="hub-rival-") as folder:
        log = Path(folder, "log")
        with log.open("wb") as out:
            child = psutil.Popen(
                [str(rival.python()), *_program(rival), *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        try:
            _wait_ready(rival, f"http://127.0.0.1:{port}", child, log)
            yield Running(Server(rival.name, f"http://127.0.0.1:{port}", rival.model), child)
        finally:
            _end(child)


def _program(rival: Rival) -> list[str]:
    own = rival.entry.endswith(".py")
    return [str(_HERE / rival.entry)] if own else [str(_HERE / "launch.py"), rival.entry]


@contextmanager
def running_rival(rival: Rival, model: Path) -> Iterator[Server]:
    """The same, for whoever only asks it."""
    with running(rival, model) as found:
        yield found.server


def _wait_ready(rival: Rival, url: str, child: psutil.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and child.poll() is None:
        try:
            if httpx.get(f"{url}/v1/models", timeout=5, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    said = log.read_text(errors="replace").split("\n")
    errors = [line.strip() for line in said if "Error" in line]
    raise NotInstalled(f"it did not start: {(errors or said or ['it said nothing'])[-1]}"[:300])


def _end(child: psutil.Popen) -> None:
    """With what it started; at SIGTERM mlx_lm.server waits for its threads."""
    family = [*child.children(recursive=True), child] if child.poll() is None else []
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    child.wait()
