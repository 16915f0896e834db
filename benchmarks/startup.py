"""From nothing to the first answer, and what the processes hold, beside mlx_lm.server.

    uv run python -m benchmarks.startup [--check] [--json FILE]

Each round starts `manage.py up` and mlx_lm.server in turn, each with the bundled SmolLM2-135M in
float32 on its disk, and asks one short chat: the seconds until the port listens and until the first
token, and the CPU seconds of all processes until then. Both find their compiled Python code in the
same cache; the first round, which fills it and the files' cache, is not counted. Then the private
memory (USS) of each process by name, when ready and after the answer; the shared pages are counted
once, as the difference of PSS. mlx_lm.server has its model from the start, the hub from the first
question on. Bars: the first answer within 10 s and 1.2 times
mlx_lm.server's, the memory 1.3 times its at most, and no process of MLflow while nobody asks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks import rivals
from benchmarks.rivals.bare import THREADS
from benchmarks.rivals.servers import MLX_LM
from benchmarks.setup.chats import Chats
from benchmarks.setup.client import NoAnswer, Server, ask
from benchmarks.setup.hub import ROOT, arguments, finish, free_port, machine, own_storage
from manage import keep_bytecode

ROUNDS = 3
START_BAR_S, TIMES_START, TIMES_MEMORY = 10.0, 1.2, 1.3
LIMIT_S = 120.0
SETTLED_S = 8.0  # after the start, until memory is read
MB = 1e6
HUB, RIVAL = "hub", "mlx_lm.server"


class Started:
    """A server that has just been started: its processes, and when it was."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], server: Server) -> None:
        self.name, self.server = name, server
        self._began = time.perf_counter()
        self._first = psutil.Process(process.pid)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def processes(self) -> list[psutil.Process]:
        return [self._first, *self._first.children(recursive=True)]

    def cpu_s(self) -> float:
        """User and system time of all processes, those that ended included."""
        spent = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                spent += sum(process.cpu_times()[:4])
        return spent

    def wait_listening(self) -> None:
        port = int(self.server.url.rpartition(":")[2])
        while self.seconds < LIMIT_S and self._first.is_running():
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        raise SystemExit(f"{self.name} does not listen.")

    def wait_answer(self) -> None:
        """Until the first token; a server that is not ready yet is asked again."""
        while self.seconds < LIMIT_S:
            with contextlib.suppress(NoAnswer, OSError):
                asyncio.run(ask(self.server, Chats(1).chat(20), 2))
                return
            time.sleep(0.05)
        raise SystemExit(f"{self.name} does not answer.")

    def memory_mb(self) -> dict[str, float]:
        """Private memory of each process by its name, what they share, and all of it together."""
        held: dict[str, float] = {}
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                memory = process.memory_full_info()
                name = _name(process.cmdline())
                held[name] = held.get(name, 0.0) + memory.uss / MB
                total += getattr(memory, "pss", memory.uss) / MB
        return {**held, "shared": total - sum(held.values()), "total": total}


def _name(line: list[str]) -> str:
    """ "web" of `manage.py run_web`, "mlflow.child" of `-m registry.mlflow.child`."""
    for at, word in enumerate(line[1:], 1):
        if word.endswith("manage.py") and at + 1 < len(line):
            return line[at + 1].removeprefix("run_")
        if word == "-m" and at + 1 < len(line):
            return ".".join(line[at + 1].split(".")[-2:])
    return line[0].rpartition("/")[2] if line else "?"


@contextmanager
def hub(model: str) -> Iterator[Started]:
    port = free_port()
    line = [sys.executable, "manage.py", "up", "--port", str(port)]
    server = Server(HUB, f"http://127.0.0.1:{port}", model)
    with _running(line, dict(os.environ)) as process:
        yield Started(HUB, process, server)


@contextmanager
def rival(folder: Path) -> Iterator[Started]:
    port = free_port()
    launch = Path(rivals.__path__[0], "launch.py")
    arguments = MLX_LM.arguments.format(model=folder, port=port).split(" ")
    line = [str(MLX_LM.python()), str(launch), MLX_LM.entry, *arguments]
    with _running(line, {**os.environ, "HF_HUB_OFFLINE": "1", **THREADS}) as process:
        yield Started(RIVAL, process, Server(RIVAL, f"http://127.0.0.1:{port}", MLX_LM.model))


@contextmanager
def _running(line: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        line, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:  # mlx_lm.server waits for its threads
                process.kill()


def start(started: Started) -> dict[str, float]:
    """Seconds, and CPU seconds, to the two moments of a start."""
    started.wait_listening()
    found = {"listening_s": started.seconds, "listening_cpu_s": started.cpu_s()}
    started.wait_answer()
    return {**found, "answer_s": started.seconds, "answer_cpu_s": started.cpu_s()}


def at_rest(started: Started) -> dict[str, float]:
    started.wait_listening()
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{started.server.url}/health", timeout=5).is_success:
                break
        if started.seconds > LIMIT_S:
            raise SystemExit(f"{started.name} is not ready.")
        time.sleep(0.1)
    time.sleep(SETTLED_S)
    return started.memory_mb()


def measure(model: str, folder: Path) -> dict[str, Any]:
    """`starts`: of each contender, round by round; `memory`: by contender and state."""
    starts: dict[str, list[dict[str, float]]] = {HUB: [], RIVAL: []}
    memory: dict[str, dict[str, dict[str, float]]] = {HUB: {}, RIVAL: {}}
    for number in range(-1, ROUNDS):
        for name in (HUB, RIVAL) if number % 2 == 0 else (RIVAL, HUB):
            with hub(model) if name == HUB else rival(folder) as started:
                found = start(started)
                if number >= 0:
                    starts[name].append(found)
                    print(name, {key: round(value, 2) for key, value in found.items()}, flush=True)
                if number == ROUNDS - 1:
                    time.sleep(SETTLED_S)
                    memory[name]["with the model"] = started.memory_mb()
    for name in (HUB, RIVAL):
        with hub(model) if name == HUB else rival(folder) as started:
            memory[name]["at rest"] = at_rest(started)
    return {"starts": starts, "memory": memory}


def judged(found: dict[str, Any]) -> dict[str, float]:
    """What the bars are held against."""

    def median(name: str, figure: str) -> float:
        return float(statistics.median(one[figure] for one in found["starts"][name]))

    held = {
        f"memory_{state.replace(' ', '_')}_times": found["memory"][HUB][state]["total"]
        / found["memory"][RIVAL][state]["total"]
        for state in ("at rest", "with the model")
    }
    idle = found["memory"][HUB]["at rest"]
    return {
        "answer_s": median(HUB, "answer_s"),
        "answer_times": median(HUB, "answer_s") / median(RIVAL, "answer_s"),
        "answer_cpu_times": median(HUB, "answer_cpu_s") / median(RIVAL, "answer_cpu_s"),
        **held,
        "mlflow_processes": sum("mlflow" in name for name in idle),
    }


def main() -> None:
    options = arguments((__doc__ or "").splitlines()[0])
    keep_bytecode()
    with own_storage("mlx"):
        from registry.bases import registration

        base = registration.register_starter()
        found = measure(f"base:{base.name}", registration.base_path(base))
    found |= {"judged": judged(found), "machine": machine()}
    text = json.dumps(found, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")
    ours = found["judged"]
    finish(
        ours["answer_s"] <= START_BAR_S
        and ours["answer_times"] <= TIMES_START
        and ours["memory_at_rest_times"] <= TIMES_MEMORY
        and ours["memory_with_the_model_times"] <= TIMES_MEMORY
        and ours["mlflow_processes"] == 0,
        options.check,
        f"first answer ≤ {START_BAR_S:.0f} s and {TIMES_START} times mlx_lm.server's, memory ≤ "
        f"{TIMES_MEMORY} times its, no process of MLflow at rest",
    )


if __name__ == "__main__":
    main()
