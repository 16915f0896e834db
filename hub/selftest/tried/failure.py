"""What becomes of a request for more memory than there is."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from typing import Any

import django

from backends.base import LoadOptions, Sampling
from hub.config import ROOT
from hub.selftest.bench import REPORT, Bench, chat
from hub.selftest.report import Outcome, judged, not_tried, right

_EXCEED = """
from backends.mlx.device import prepare
prepare()
from backends.mlx.selftest.rates import exceed
print(*exceed(), sep="\\n")
"""


def allocation(bench: Bench) -> Outcome:
    """In a process of its own: what MLX says, and whether it computes afterwards."""
    ran = subprocess.run(
        [sys.executable, "-c", _EXCEED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = ran.stdout.strip().splitlines()
    figures: dict[str, Any] = {"said": said, "code": ran.returncode}
    if ran.returncode < 0 and bench.kind == "cpu":
        name = signal.Signals(-ran.returncode).name
        return not_tried(
            f"On the CPU MLX does not look whether the system refuses memory; the process ended with "
            f"{name}, as an engine's would, which the hub starts again.",
            **figures,
        )
    refused = len(said) == 2 and said[1] == "8.0"
    if not refused:
        what = said[0] if said else f"nothing, and its process ended with code {ran.returncode}"
        return judged(False, f"MLX said {what}.", REPORT, **figures)
    return right(f"MLX refused it and computes on: {said[0]}", **figures)


def engine(bench: Bench) -> Outcome:
    """A real engine on a socket, asked three times: the second answer exceeds all memory."""
    os.environ["HUB_STORAGE"] = str(bench.folder / "storage")
    django.setup()
    found = asyncio.run(_asked(bench))
    how = "MLX's refusal is raised in its place on the CPU" if bench.kind == "cpu" else "for real"
    return judged(
        found["before"] > 0 and found["status"] == 503 and found["after"] > 0,
        f"{found['status']} “{found['message']}” ({how}); "
        f"{'the next request was answered' if found['after'] else 'the next request FAILED'}.",
        REPORT,
        **found,
    )


async def _asked(bench: Bench) -> dict[str, Any]:
    """Tokens of the answers before and after, and the error between them."""
    from backends.mlx.selftest.exceeding import ExceedingBackend
    from inference.engine.memory import neighbours
    from inference.engine.memory.residents import Limits
    from inference.engine.server import Engine
    from inference.gateway import client
    from inference.protocol import Done, Folder, Generate
    from registry.errors import HubError
    from registry.storage import artifacts, paths

    paths.make_folders()
    neighbours.register(neighbours.Nobody())  # the database, which the hub would ask, is not there
    target = paths.base_dir("selftest")
    shutil.copytree(bench.base, target)
    base = Folder(path=paths.relative(target), manifest_sha256=artifacts.seal(target).sha256)
    backend = ExceedingBackend()
    limits = Limits(bench.device.memory_bytes, 0.0, LoadOptions())
    engine = Engine(backend, max_rows=4, max_queue=4, limits=limits)
    running = asyncio.create_task(engine.run(paths.engine_socket()))

    async def tokens() -> int:
        request = Generate(
            request_id="one",
            base=base,
            messages=chat("What is the capital of France?"),
            sampling=Sampling(max_tokens=8),
        )
        events = [event async for event in client.generate(request)]
        done = events[-1]
        return done.completion_tokens if isinstance(done, Done) else 0

    found: dict[str, Any] = {"status": 0, "message": "no error"}
    try:
        await _until_ready(running)
        found["before"] = await tokens()
        backend.exceed = True
        try:
            await tokens()
        except HubError as error:
            found |= {"status": error.status, "code": error.code, "message": str(error)}
        found["after"] = await tokens()
    finally:
        engine.stop()
        await running
    return found


async def _until_ready(running: asyncio.Task[None]) -> None:
    from inference.gateway import client
    from registry.errors import Unavailable

    async with asyncio.timeout(60):
        while not running.done():
            try:
                await client.ping()
            except Unavailable:
                await asyncio.sleep(0.02)
            else:
                return
