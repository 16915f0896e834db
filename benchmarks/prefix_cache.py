"""What the prefix cache saves: the second turn of a long chat, also after a restart.

    uv run python -m benchmarks.prefix_cache [--check] [--json FILE]

A real hub with the bundled SmolLM2-135M in float32 and the cache on disk switched on. Each chat has
a history of about 1,500 tokens; its second turn sends it again with the answer and one more
question. Then the engine is restarted and asked for the second turns with another question. Bars,
by the median over the chats of the ratio to the same chat's first turn: the first token in at most
0.1, and 0.25 after the restart. A look-up of 32,000 tokens in the index of blocks, all of them held,
takes less than 1 ms.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import time
from typing import Any

from rich.console import Console
from rich.table import Table

from backends.base import Message
from backends.prefixes import BLOCK, PrefixTree
from benchmarks.setup.chats import Chats
from benchmarks.setup.client import Answer, Server, ask
from benchmarks.setup.hub import arguments, finish, machine, supervised_hub
from inference.gateway.client import aengine_stats, ping
from registry.errors import Unavailable

CHATS, WORDS, TOKENS = 3, 1390, 12
LONG = 32_000
SECOND_BAR, RESTART_BAR, LOOK_UP_BAR_MS = 0.1, 0.25, 1.0
START_S = 60.0


def look_up_ms() -> list[float]:
    """The time to find a long sequence in the index."""
    tree: PrefixTree[None] = PrefixTree(1 << 40)
    tokens = [(7 * n) % 49_152 for n in range(LONG)]
    tree.add(b"root", tokens, 1, lambda start, stop: None)
    took = []
    for _ in range(50):
        began = time.perf_counter()
        held = tree.find(b"root", tokens)
        took.append((time.perf_counter() - began) * 1000)
        if sum(blocks for _, blocks in held) != LONG // BLOCK:
            raise SystemExit("The index did not find what it holds.")
    return took


def question(text: str) -> Message:
    return Message(role="user", content=text)


async def turns(server: Server) -> tuple[list[Answer], list[Answer], list[list[Message]]]:
    """First and second turns, one chat after another, and what the second ones sent."""
    first, second, sent = [], [], []
    await ask(server, Chats(1).chat(80), 4)  # warms up
    for number in range(CHATS):
        chat = Chats(8000 + number).chat(WORDS)
        first.append(answer := await ask(server, chat, TOKENS))
        said = Message(role="assistant", content=answer.text)
        sent.append([*chat, said, question("And what comes after that?")])
        second.append(await ask(server, sent[-1], TOKENS))
    return first, second, sent


async def after_restart(server: Server, sent: list[list[Message]]) -> list[Answer]:
    """The second turns again, with another question, on a fresh engine."""
    await ask(server, Chats(2).chat(80), 4)  # loads the model and warms up
    return [
        await ask(server, [*chat[:-1], question("Why would that be so?")], TOKENS) for chat in sent
    ]


async def restart() -> None:
    """End the engine, and wait for the one that `up` starts."""
    old = await ping()
    while (await aengine_stats())["running"]:
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)  # what it writes behind the answers
    os.kill(old, signal.SIGTERM)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            if await ping() != old:
                return
        except Unavailable:
            pass
        await asyncio.sleep(0.1)
    raise SystemExit("The engine did not come back.")


def ratio(some: list[Answer], first: list[Answer]) -> float:
    return statistics.median(a.first_ms / b.first_ms for a, b in zip(some, first, strict=True))


async def measure(server: Server) -> dict[str, list[Answer]]:
    first, second, sent = await turns(server)
    await restart()
    return {
        "first turn": first,
        "second turn": second,
        "after a restart": await after_restart(server, sent),
    }


def show(found: dict[str, list[Answer]], looked: list[float]) -> None:
    table = Table(title=f"First token, ms ({machine()})")
    for heading in ("", "median", "lowest", "highest", "times the first", "tokens", "cached"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, answers in found.items():
        times = [answer.first_ms for answer in answers]
        table.add_row(
            name,
            *(f"{figure:.0f}" for figure in (statistics.median(times), min(times), max(times))),
            f"{ratio(answers, found['first turn']):.3f}",
            f"{statistics.median(answer.prompt_tokens for answer in answers):.0f}",
            f"{statistics.median(answer.cached_tokens for answer in answers):.0f}",
        )
    Console().print(table)
    print(
        f"Look-up of {LONG} tokens: {statistics.median(looked):.2f} ms, at most {max(looked):.2f}"
    )


def main() -> None:
    options = arguments((__doc__ or "").splitlines()[0])
    with supervised_hub("mlx", HUB_PREFIX_CACHE_ON_DISK="true") as hub:
        from registry.bases.registration import register_starter

        name = f"base:{register_starter().name}"
        found = asyncio.run(measure(Server("hub", hub.url, name)))
    looked = look_up_ms()
    show(found, looked)
    second, restarted = (
        ratio(found[n], found["first turn"]) for n in ("second turn", "after a restart")
    )
    look_up = statistics.median(looked)
    if options.json:
        values: dict[str, Any] = {"machine": machine(), "look_up_ms": looked}
        values |= {name: [a.first_ms for a in answers] for name, answers in found.items()}
        options.json.write_text(json.dumps(values, indent=2) + "\n")
    finish(
        second <= SECOND_BAR and restarted <= RESTART_BAR and look_up < LOOK_UP_BAR_MS,
        options.check,
        f"second turn {second:.3f} of the first (≤ {SECOND_BAR}), after a restart {restarted:.3f} "
        f"(≤ {RESTART_BAR}), look-up {look_up:.2f} ms (< {LOOK_UP_BAR_MS:g})",
    )


if __name__ == "__main__":
    main()
