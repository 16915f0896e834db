"""How long a row outlives its client, seen at the engine's own socket.

The engine's statistics are asked for about every millisecond, which costs it a fraction of one: a
row is free when the engine says that none runs.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.asking import Server, asked
from benchmarks.chats import Chats
from inference.gateway.client import aengine_stats

TIMES = 12
LIMIT_S = 10.0


@dataclass(frozen=True)
class Left:
    """`ms` from the connection's end until no row runs, `steps` of the engine meanwhile, and how
    long a step took before."""

    ms: float
    steps: int
    step_ms: float

    @property
    def beyond_steps_ms(self) -> float:
        """What is over after two steps."""
        return max(0.0, self.ms - 2 * self.step_ms)


async def leaving(server: Server) -> dict[str, list[Left]]:
    """Clients that go in mid-answer, by how they had asked; the first time of each warms up."""
    found = {}
    for kind, streamed in (("streaming", True), ("not streaming", False)):
        rows = [await _leave(server, number, streamed) for number in range(TIMES + 1)]
        found[kind] = rows[1:]
    return found


async def _leave(server: Server, number: int, streamed: bool) -> Left:
    chat = Chats(5000 + number).chat(20)
    async with asked(server, chat, stream=streamed, max_tokens=1500, temperature=0.0):
        begun = await _until(lambda stats: stats["running"] == 1)
        began = time.perf_counter()
        before = await _until(lambda stats: stats["steps"] >= begun["steps"] + 8)
        step_ms = (time.perf_counter() - began) * 1000 / (before["steps"] - begun["steps"])
        await asyncio.sleep(0.007 * number)  # not in step with the engine
        before = await aengine_stats()
        gone = time.perf_counter()
    after = await _until(lambda stats: stats["running"] == 0)
    ms = (time.perf_counter() - gone) * 1000
    return Left(ms, after["steps"] - before["steps"], step_ms)


async def _until(holds: Any) -> dict[str, Any]:
    deadline = time.monotonic() + LIMIT_S
    while not holds(stats := await aengine_stats()):
        if time.monotonic() > deadline:
            raise SystemExit("The engine did not get there in time.")
        await asyncio.sleep(0.0005)
    return stats
