"""How long a row keeps running after its client disconnects, seen at the engine's own socket.

The engine's statistics are polled about every millisecond, which costs it a fraction of one: the
row is free when the engine reports that none runs.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.setup.chats import Chats
from benchmarks.setup.client import Server, connected
from inference.gateway.client import aengine_stats

TIMES = 12
LIMIT_S = 10.0


@dataclass(frozen=True)
class Disconnect:
    """`ms` from closing the connection until no row runs, `steps` of the engine in that time, and
    how long a step took before."""

    ms: float
    steps: int
    step_ms: float

    @property
    def beyond_steps_ms(self) -> float:
        """The time beyond two steps."""
        return max(0.0, self.ms - 2 * self.step_ms)


async def disconnects(server: Server) -> dict[str, list[Disconnect]]:
    """Clients that disconnect in mid-answer, by kind of request; the first of each warms up."""
    found = {}
    for kind, streamed in (("streaming", True), ("not streaming", False)):
        rows = [await _disconnect(server, number, streamed) for number in range(TIMES + 1)]
        found[kind] = rows[1:]
    return found


async def _disconnect(server: Server, number: int, streamed: bool) -> Disconnect:
    chat = Chats(5000 + number).chat(20)
    async with connected(server, chat, stream=streamed, max_tokens=1500, temperature=0.0):
        running = await _until(lambda stats: stats["running"] == 1)
        began = time.perf_counter()
        before = await _until(lambda stats: stats["steps"] >= running["steps"] + 8)
        step_ms = (time.perf_counter() - began) * 1000 / (before["steps"] - running["steps"])
        await asyncio.sleep(0.007 * number)  # not in step with the engine
        before = await aengine_stats()
        gone = time.perf_counter()
    after = await _until(lambda stats: stats["running"] == 0)
    ms = (time.perf_counter() - gone) * 1000
    return Disconnect(ms, after["steps"] - before["steps"], step_ms)


async def _until(condition: Any) -> dict[str, Any]:
    deadline = time.monotonic() + LIMIT_S
    while not condition(stats := await aengine_stats()):
        if time.monotonic() > deadline:
            raise SystemExit(f"The engine did not reach the expected state within {LIMIT_S:.0f} s.")
        await asyncio.sleep(0.0005)
    return stats
