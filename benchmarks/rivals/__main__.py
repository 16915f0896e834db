"""The hub beside its rivals: same machine, weights, MLX, BLAS and waiting threads.

    uv run python -m benchmarks.rivals [PART …] [--rounds N] [--against NAME …] [--check] [--json FILE]

Parts: `one` (a single stream of some 230 tokens of prompt: rate, first token, and whether the greedy
texts agree), `long` (the first token after 1,000), `many` (8 streams, greedy and at temperature 0.7
with top_p 0.9), `beside` (the first token beside a live stream), `second` (the first token of the
second turn of a chat of 1,500), `tiny` (8 streams of a model that costs nothing: what a server
itself adds), `schema` (answers held to a schema beside free ones, by `benchmarks.serving alone`, since
no rival can do that on a CPU), `start` (to the first answer, and the memory, by `benchmarks.startup`) and
`training` (real tokens a second and memory, `benchmarks.rivals.training`); all if none is named.

The servers are mlx_lm.server, vllm-mlx, rapid-mlx and mlx-openai-server, the trainers mlx_lm.lora (as
shipped, and with sorted lengths), mlx-lm-lora and unsloth-zoo's; `--against` takes only those it names.
llama.cpp, which has kernels of its own, is shown with float32 and 4-bit weights and held to no bar. All
but mlx-lm are installed into environments of their own (3.5 GB together, kept in
`~/.cache/mlx-model-hub/rivals`). One that cannot be installed or started here is left out with its
reason. All servers run all the while and take turns within each round, and so do trainers; a ratio is the
median over the rounds of the ratios within them. The bundled SmolLM2-135M in float32, everything over
HTTP, with a client that costs little. Nobody's cache can help but in `second`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from backends.base import Message
from backends.mlx.selftest.models import make_float32_gguf
from benchmarks.rivals import training
from benchmarks.rivals.environments import NotInstalled
from benchmarks.rivals.servers import LLAMA_CPP, RIVALS, Weights, running_rival
from benchmarks.rivals.trainers import TRAINERS
from benchmarks.serving import BESIDE_PROBES, MANY_WORDS, SAMPLED, first_beside
from benchmarks.setup.chats import Chats
from benchmarks.setup.client import Answer, NoAnswer, Server, ask, ask_all
from benchmarks.setup.figures import Bar, Figures, turns
from benchmarks.setup.hub import ROOT, add_arguments, finish, machine, supervised_hub
from benchmarks.setup.models import make_tiny_model
from benchmarks.startup import START_BAR_S, TIMES_MEMORY, TIMES_START
from registry.bases.bundled import starter_gguf

HUB, SHOWN = "hub", ("llama.cpp",)
ALIKE = 0.8  # of the greedy texts; the others differ in what rounding decides
ONE_WORDS, ONE_TOKENS, LONG_WORDS, SECOND_WORDS = 150, 96, 790, 1190
STREAMS, MANY_TOKENS, TINY_TOKENS = 8, 32, 48


@dataclass
class Contenders:
    """Who serves the real model, who the tiny one, and the hub's web process."""

    real: dict[str, Server]
    tiny: dict[str, Server]
    web: psutil.Process
    rounds: int


async def one(who: Contenders, found: Figures) -> None:
    rate, first = "one stream, tokens/s", "first token after 230, ms"
    alike = "greedy texts as the hub's, share"

    async def measure(server: Server, number: int) -> Answer:
        return await ask(server, Chats(100 + number).chat(ONE_WORDS), ONE_TOKENS)

    for answers in await _race(who.real, who.rounds, measure):
        for name, answer in answers.items():
            found.add(rate, name, answer.rate)
            found.add(first, name, answer.first_ms)
            found.add(alike, name, float(answer.text.strip() == answers[HUB].text.strip()))
    for name, shares in found.values[alike].items():
        if not name.startswith((HUB, *SHOWN)):
            found.bars.append(Bar(f"{alike}: {name}", statistics.mean(shares), ALIKE))
    found.hold(rate, HUB, 1.15, beside=SHOWN)
    found.hold(first, HUB, 0.8, at_least=False, beside=SHOWN)


async def long(who: Contenders, found: Figures) -> None:
    name = "first token after 1,000, ms"

    async def measure(server: Server, number: int) -> float:
        return (await ask(server, Chats(500 + number).chat(LONG_WORDS), 2)).first_ms

    _add(found, name, await _race(who.real, who.rounds, measure))
    found.hold(name, HUB, 0.8, at_least=False, beside=SHOWN)


async def many(who: Contenders, found: Figures) -> None:
    for kind, sampling, wanted in (("greedy", {}, 1.17), ("sampled", SAMPLED, 1.3)):
        name = f"{STREAMS} {kind} streams, tokens/s"
        measure = partial(_many, MANY_TOKENS, 2000, sampling)
        _add(found, name, await _race(who.real, who.rounds, measure))
        found.hold(name, HUB, wanted, beside=SHOWN)


async def _many(
    tokens: int, seed: int, sampling: dict[str, float], server: Server, number: int
) -> float:
    draw = Chats(seed + number)
    chats = [draw.chat(MANY_WORDS) for _ in range(STREAMS)]
    return (await ask_all([server], chats, tokens, **sampling)).rate


async def beside(who: Contenders, found: Figures) -> None:
    name = "first token beside a live stream, ms"

    async def measure(server: Server, number: int) -> float:
        chats = Chats(3000 + number)
        probes = [chats.chat(MANY_WORDS) for _ in range(BESIDE_PROBES)]
        return statistics.median(await first_beside(server, chats, probes))

    _add(found, name, await _race(who.real, who.rounds, measure))
    found.hold(name, HUB, 0.5, at_least=False, beside=SHOWN)


async def second(who: Contenders, found: Figures) -> None:
    name = "first token of a second turn after 1,500, ms"

    async def measure(server: Server, number: int) -> float:
        chat = Chats(8000 + number).chat(SECOND_WORDS)
        said = (await ask(server, chat, 12)).text
        again = [Message(role="assistant", content=said), Message(role="user", content="And then?")]
        return (await ask(server, [*chat, *again], 12)).first_ms

    _add(found, name, await _race(who.real, who.rounds, measure))
    found.hold(name, HUB, 0.8, at_least=False, beside=SHOWN)


async def tiny(who: Contenders, found: Figures) -> None:
    name, web = f"tiny model, {STREAMS} streams, first token, ms", "web, µs of processor a token"

    async def measure(server: Server, number: int) -> tuple[float, float]:
        draw, before = Chats(5000 + number), _processor_s(who.web)
        chats = [draw.chat(MANY_WORDS) for _ in range(STREAMS)]
        answers = await ask_all([server], chats, TINY_TOKENS)
        return answers.first_ms, (_processor_s(who.web) - before) * 1e6 / answers.tokens

    for answers in await _race(who.tiny, 5 * who.rounds, measure):
        for contender, (first_ms, _) in answers.items():
            found.add(name, contender, first_ms)
        found.add(web, HUB, answers[HUB][1])
    found.hold(name, HUB, 1.0, at_least=False)
    # The system counts in steps of 10 ms, 26 µs a token of one round.
    found.bars.append(Bar(web, statistics.mean(found.values[web][HUB]), 100, at_least=False))


SERVED: dict[str, Callable[[Contenders, Figures], Coroutine[Any, Any, None]]] = {
    "one": one,
    "long": long,
    "many": many,
    "beside": beside,
    "second": second,
    "tiny": tiny,
}
PARTS = (*SERVED, "schema", "start", "training")
NAMES = [one.name for one in (*RIVALS, *LLAMA_CPP)] + [one.name for one in TRAINERS]


def _processor_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def _race[T](
    servers: dict[str, Server], rounds: int, measure: Callable[[Server, int], Awaitable[T]]
) -> list[dict[str, T]]:
    """What each gave in each round, one after another in turns. The first round warms up. One in which a
    rival does not answer (rapid-mlx keeps some texts of a random model to itself) counts for nobody, and
    who does so in more than a fourth of them is left out."""
    found: list[dict[str, T]] = []
    missed = Counter[str]()
    number = -1
    while len(found) <= rounds:
        came: dict[str, T] = {}
        for name in turns(number, tuple(servers)):
            try:
                came[name] = await measure(servers[name], number)
            except NoAnswer as error:
                if name == HUB:
                    raise
                print(f"round {number}: {str(error).splitlines()[0]}", flush=True)
                missed[name] += 1
                if 4 * missed[name] <= rounds:
                    break
                print(f"left out: {name}", flush=True)
                servers = {other: server for other, server in servers.items() if other != name}
                for earlier in found:
                    earlier.pop(name, None)
        else:
            found.append(came)
        number += 1
    return found[1:]


def _add(found: Figures, name: str, rounds: list[dict[str, float]]) -> None:
    for values in rounds:
        for contender, value in values.items():
            found.add(name, contender, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], metavar="PART")
    parser.add_argument("--rounds", type=int, default=5, help="of each part (default 5)")
    parser.add_argument("--against", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    add_arguments(parser)
    options = parser.parse_args()
    parts: Sequence[str] = options.part or PARTS
    found, left_out = Figures(), dict[str, str]()
    try:
        if served := [part for part in parts if part in SERVED]:
            left_out |= _serve(found, served, options.rounds, options.against)
        if "schema" in parts:
            _held_to_schemas(found)
        if "start" in parts:
            _started(found)
        if "training" in parts:
            trainers = [one for one in TRAINERS if one.name in options.against]
            left_out |= training.measure(found, 1 + options.rounds // 2, trainers)
    finally:
        found.show("The hub beside its rivals")
        for name, reason in left_out.items():
            print(f"not measured: {name}, since {reason}")
    if options.json:
        options.json.write_text(_as_json(found, left_out))
    missed = [str(bar) for bar in found.bars if not bar.met]
    finish(not missed, options.check, "; ".join(missed or map(str, found.bars)))


def _serve(
    found: Figures, parts: Sequence[str], rounds: int, against: Sequence[str]
) -> dict[str, str]:
    """The parts whose contenders are servers. Returns the reasons of those that are left out."""
    left_out = dict[str, str]()
    with ExitStack() as stack:
        hub = stack.enter_context(supervised_hub("mlx"))
        from registry.bases import registration
        from registry.models import BaseModel
        from registry.storage import paths

        starter = registration.register_starter()
        folder = make_tiny_model(paths.staging_dir("tiny") / "model")
        small = registration.register_base("tiny", BaseModel.Source.FOLDER, str(folder))
        web = next(c.process for c in hub.children if c.name == "web" and c.process is not None)
        who = Contenders(
            {HUB: Server(HUB, hub.url, f"base:{starter.name}")},
            {HUB: Server(HUB, hub.url, f"base:{small.name}")},
            psutil.Process(web.pid),
            rounds,
        )
        float32 = make_float32_gguf(starter_gguf(), paths.staging_dir("gguf") / "m.gguf")
        real: dict[Weights, Path] = {
            "folder": registration.base_path(starter),
            "float32 GGUF": float32,
            "Q4_1 GGUF": starter_gguf(),
        }
        tiny: dict[Weights, Path] = {"folder": registration.base_path(small)}
        for models, servers, wanted in (
            (real, who.real, set(parts) - {"tiny"}),
            (tiny, who.tiny, set(parts) & {"tiny"}),
        ):
            for rival in (*RIVALS, *LLAMA_CPP):
                if wanted and rival.weights in models and rival.name in against:
                    print(f"Starting {rival.name} …", flush=True)
                    try:
                        started = running_rival(rival, models[rival.weights])
                        servers[rival.name] = stack.enter_context(started)
                    except NotInstalled as error:
                        left_out[rival.name] = str(error)
        for part in parts:
            known = len(found.bars)
            asyncio.run(SERVED[part](who, found))
            print(f"{part}: {'; '.join(map(str, found.bars[known:]))}", flush=True)
    return left_out


def _held_to_schemas(found: Figures) -> None:
    other = _measured("serving", "alone")
    for name, values in other["figures"].items():
        found.values.setdefault(name, {}).update(values)
    found.bars += [Bar(name, value, limit) for name, (value, limit, _) in other["bars"].items()]


def _started(found: Figures) -> None:
    other = _measured("startup")
    for name, starts in other["starts"].items():
        for one in starts:
            found.add("cold start to the first answer, s", name, one["answer_s"])
    for name, states in other["memory"].items():
        for state, held in states.items():
            found.add(f"memory of all processes {state}, MB", name, held["total"])
    for name, value, limit in (
        ("first answer, s", other["judged"]["answer_s"], START_BAR_S),
        ("first answer: times mlx_lm.server", other["judged"]["answer_times"], TIMES_START),
        ("memory at rest: times", other["judged"]["memory_at_rest_times"], TIMES_MEMORY),
        (
            "memory with the model: times",
            other["judged"]["memory_with_the_model_times"],
            TIMES_MEMORY,
        ),
    ):
        found.bars.append(Bar(name, value, limit, at_least=False))


def _measured(benchmark: str, *arguments: str) -> dict[str, Any]:
    """What another benchmark found, in a process of its own, since its hub has a storage of its own."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, "-m", f"benchmarks.{benchmark}", *arguments, "--json", file.name]
        child = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        try:
            if child.wait():
                raise SystemExit(f"{benchmark} ended with {child.returncode}; see above.")
        finally:
            child.send_signal(signal.SIGINT)  # with its hub, where this ends before it
            child.wait()
        return dict(json.loads(Path(file.name).read_text()))


def _as_json(found: Figures, left_out: dict[str, str]) -> str:
    bars = {bar.name: [bar.value, bar.limit, bar.met] for bar in found.bars}
    whole = {"machine": machine(), "figures": found.values, "bars": bars, "left_out": left_out}
    return json.dumps(whole, indent=2) + "\n"


if __name__ == "__main__":
    main()
