"""How fast the hub serves beside bare mlx-lm and mlx_lm.server: same machine, weights and BLAS.

    uv run python -m benchmarks.serving [PART …] [--check] [--json FILE]

Parts: `one` (a single stream), `tiny` (what the hub itself adds to the first token), `many` (8 and
16 greedy streams), `sampled` (the same at temperature 0.7, top_p 0.9), `beside` (the first token
beside a live stream), `alone` (schemas and edits of a single stream) and `leaving` (until a row is free
after its client disconnects); all of them if none is named. A real hub with all of its processes, the bundled SmolLM2-135M in float32,
everything over HTTP. Hub and rivals take turns within each round; a ratio is the median over the rounds of
the ratios within them. The prompts of a round are the same for all, and differ from all others in
their first words, so that no prompt cache can help.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import Message
from benchmarks.rivals.bare import Bare
from benchmarks.rivals.servers import MLX_LM, running_rival
from benchmarks.setup.chats import Chats
from benchmarks.setup.client import Server, Together, ask, ask_all
from benchmarks.setup.disconnects import disconnects
from benchmarks.setup.figures import Bar, Figures, turns
from benchmarks.setup.hub import add_arguments, finish, machine, supervised_hub
from benchmarks.setup.models import make_tiny_model

ONE_ROUNDS, ONE_WORDS, ONE_TOKENS = 13, 150, 96
TINY_ROUNDS = 120
MANY_ROUNDS, MANY_WORDS, MANY_TOKENS = 3, 20, 32
BESIDE_ROUNDS, BESIDE_PROBES = 3, 4
STORY = "Write a story as long as a book, with many chapters, about a city by the sea."  # 400 tokens and more
SAMPLED = {"temperature": 0.7, "top_p": 0.9}
ALONE_ROUNDS, ALONE_TOKENS = 5, 96
EDIT = "Repeat this text word for word, and write END after it.\n\n"
REGION = {"enum": ["north_western_region", "south_eastern_region"]}
FORCING = {
    "date_of_birth": {"enum": ["yesterday", "tomorrow"]},
    "preferred_contact_method": {"enum": ["email_address", "telephone_number"]},
    "requires_confirmation": {"type": "boolean"},
    "number_of_participants": {"type": "integer", "minimum": 1, "maximum": 99},
    "organisation_identifier": REGION,
}
TEXTS = {
    "title": {"type": "string", "minLength": 40},
    "story": {"type": "string", "minLength": 400},
}


@dataclass
class Contenders:
    hub: Server
    tiny: Server
    model: Path
    tiny_model: Path


# --------------------------------------------------------------------------- parts


async def one(who: Contenders, found: Figures) -> None:
    rate, first = "one stream, tokens/s", "one stream, first token, ms"
    with Bare(who.model) as bare:
        for number in range(-1, ONE_ROUNDS):
            chat = Chats(100 + number).chat(ONE_WORDS)
            for contender in turns(number, ("hub", "bare mlx-lm")):
                if contender == "hub":
                    answer = await ask(who.hub, chat, ONE_TOKENS)
                    figures = {"rate": answer.rate, "first_ms": answer.first_ms}
                else:
                    figures = bare.ask(chat, ONE_TOKENS)
                if number >= 0:  # the first round warms up
                    found.add(rate, contender, figures["rate"])
                    found.add(first, contender, figures["first_ms"])
    found.bars += [
        Bar("one stream: rate, times bare", found.ratio(rate, "hub", "bare mlx-lm"), 0.98),
        Bar("cold first token, times bare", found.ratio(first, "hub", "bare mlx-lm"), 1.05, False),
    ]


async def tiny(who: Contenders, found: Figures) -> None:
    name = "tiny model, first token, ms"
    with Bare(who.tiny_model) as bare:
        for number in range(-10, TINY_ROUNDS):
            chat = Chats(1000 + number).chat(MANY_WORDS)
            mine = (await ask(who.tiny, chat, 2)).first_ms
            theirs = bare.ask(chat, 3)["first_ms"]
            if number >= 0:
                found.add(name, "hub", mine)
                found.add(name, "bare mlx-lm", theirs)
    late = {
        contender: sorted(values)[int(TINY_ROUNDS * 0.95)]
        for contender, values in found.values[name].items()
    }
    # Late beside late: the rival's own first tokens come in two heaps, 7 ms apart on two cores.
    over = late["hub"] - late["bare mlx-lm"]
    found.bars.append(
        Bar("tiny model: p95 of the first token over bare's p95, ms", over, 10, False)
    )


async def many(who: Contenders, found: Figures) -> None:
    with (
        Bare(who.model) as bare,
        Bare(who.model, hub=True) as inside,
        running_rival(MLX_LM, who.model) as rival,
    ):
        contenders = {
            "hub": _served(who.hub),
            "BatchGenerator": _in_process(bare),
            "hub's backend, no server": _in_process(inside),
            "mlx_lm.server": _served(rival),
        }
        for streams in (8, 16):
            name = f"{streams} greedy streams, tokens/s"
            await _race(found, name, contenders, streams)
            found.bars += [
                Bar(f"{streams} streams, times {other}", found.ratio(name, "hub", other), limit)
                for other, limit in (("BatchGenerator", 0.95), ("mlx_lm.server", 1.0))
            ]


async def sampled(who: Contenders, found: Figures) -> None:
    with running_rival(MLX_LM, who.model) as rival:
        contenders = {
            "hub": _served(who.hub, **SAMPLED),
            "mlx_lm.server": _served(rival, **SAMPLED),
        }
        for streams in (8, 16):
            name = f"{streams} sampled streams, tokens/s"
            await _race(found, name, contenders, streams)
            ratio = found.ratio(name, "hub", "mlx_lm.server")
            found.bars.append(Bar(f"{streams} sampled streams, times mlx_lm.server", ratio, 1.15))


async def beside(who: Contenders, found: Figures) -> None:
    name = "first token beside a live stream, ms"
    with running_rival(MLX_LM, who.model) as rival:
        servers = {"hub": who.hub, "mlx_lm.server": rival}
        for number in range(-1, BESIDE_ROUNDS):
            chats = Chats(3000 + number)
            probes = [chats.chat(MANY_WORDS) for _ in range(BESIDE_PROBES)]
            for contender in turns(number, tuple(servers)):
                for value in await first_beside(servers[contender], chats, probes):
                    if number >= 0:
                        found.add(name, contender, value)
    medians = {who: statistics.median(values) for who, values in found.values[name].items()}
    ratio = medians["hub"] / medians["mlx_lm.server"]
    found.bars.append(Bar("first token beside a stream, times mlx_lm.server", ratio, 0.5, False))


async def first_beside(server: Server, chats: Chats, probes: Sequence[Any]) -> list[float]:
    """The first-token times of `probes`, one after another while another answer streams."""
    live = asyncio.create_task(_live(server, chats))
    await asyncio.sleep(1.5)
    values = []
    for number, probe in enumerate(probes):
        values.append((await ask(server, probe, 4)).first_ms)
        await asyncio.sleep(0.3 + 0.1 * number)  # at another moment of the engine's step each time
    live.cancel()
    await asyncio.gather(live, return_exceptions=True)
    await asyncio.sleep(1.0)  # the rival notices only now and then
    return values


async def _live(server: Server, chats: Chats) -> None:
    """A long stream, started again if it ends."""
    while True:
        number = int(chats.chat(1)[0]["content"][:4])
        task = f"{number} is where you begin. {STORY}"
        await ask(server, [Message(role="user", content=task)], 600)


async def alone(who: Contenders, found: Figures) -> None:
    """What a schema costs or saves, beside free answers to the same chats, and edits beside bare mlx-lm."""
    name = "one stream beside free answers, tokens/s"
    kinds: dict[str, dict[str, Any]] = {
        "free": {},
        "schema that forces much": _held_to(FORCING),
        "schema with texts": _held_to(TEXTS),
    }
    with Bare(who.model) as bare:
        for number in range(-1, ALONE_ROUNDS):
            chats = Chats(4000 + number)
            chat, edited = chats.chat(MANY_WORDS), chats.text(2 * MANY_WORDS)
            edit = [Message(role="user", content=EDIT + edited)]
            for kind in turns(number, (*kinds, "edit")):
                if kind == "edit":
                    mine = (await ask(who.hub, edit, ALONE_TOKENS)).rate
                    theirs = bare.ask(edit, ALONE_TOKENS)["rate"]
                else:
                    answer = await ask(who.hub, chat, ALONE_TOKENS, **kinds[kind])
                    # Of the whole answer: several tokens come with the first.
                    mine = answer.tokens / (answer.last - answer.began)
                if number < 0:
                    continue
                if kind == "edit":
                    found.add("edit, tokens/s", "hub", mine)
                    found.add("edit, tokens/s", "bare mlx-lm", theirs)
                else:
                    found.add(name, kind, mine)
    found.bars += [
        Bar(f"{kind}, times free", found.ratio(name, kind, "free"), limit)
        for kind, limit in (("schema that forces much", 1.0), ("schema with texts", 0.95))
    ]
    edits = found.ratio("edit, tokens/s", "hub", "bare mlx-lm")
    found.bars.append(Bar("edit, times bare", edits, 1.0))


def _held_to(properties: dict[str, Any]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    named = {"name": "answer", "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


async def left(who: Contenders, found: Figures) -> None:
    for model, server in (("tiny model", who.tiny), ("SmolLM2-135M", who.hub)):
        for kind, rows in (await disconnects(server)).items():
            for row in rows:
                found.add(f"row free after its client disconnects, ms ({kind})", model, row.ms)
                found.add(f"steps until then ({kind})", model, row.steps)
                found.add(f"a step takes, ms ({kind})", model, row.step_ms)
            worst = max(row.beyond_steps_ms for row in rows)
            name = f"row free, {model}, {kind}: worst beyond two steps, ms"
            found.bars.append(Bar(name, worst, 100, False))


PARTS: dict[str, Callable[[Contenders, Figures], Awaitable[None]]] = {
    "one": one,
    "tiny": tiny,
    "many": many,
    "sampled": sampled,
    "beside": beside,
    "alone": alone,
    "leaving": left,
}

# --------------------------------------------------------------------------- races

type _Run = Callable[[Sequence[Any]], Awaitable[Together]]


def _served(server: Server, **sampling: Any) -> _Run:
    return lambda chats: ask_all([server], chats, MANY_TOKENS, **sampling)


def _in_process(bare: Bare) -> _Run:
    return lambda chats: asyncio.to_thread(bare.ask_all, chats, MANY_TOKENS)


async def _race(found: Figures, name: str, contenders: dict[str, _Run], streams: int) -> None:
    for number in range(-1, MANY_ROUNDS):
        draw = Chats(2000 + 100 * streams + number)
        chats = [draw.chat(MANY_WORDS) for _ in range(streams if number >= 0 else 2)]
        for contender in turns(number, tuple(contenders)):
            together = await contenders[contender](chats)
            if number >= 0:  # the first round warms up
                found.add(name, contender, together.rate)
                print(f"{name}: {contender} {together.rate:.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], metavar="PART")
    add_arguments(parser)
    options = parser.parse_args()
    found = Figures()
    with ExitStack() as stack:
        hub = stack.enter_context(supervised_hub("mlx"))
        from registry.bases import registration
        from registry.models import BaseModel
        from registry.storage import paths

        starter = registration.register_starter()
        tiny_folder = make_tiny_model(paths.staging_dir("tiny") / "model")
        small = registration.register_base("tiny", BaseModel.Source.FOLDER, str(tiny_folder))
        who = Contenders(
            Server("hub", hub.url, f"base:{starter.name}"),
            Server("hub", hub.url, f"base:{small.name}"),
            registration.base_path(starter),
            registration.base_path(small),
        )
        try:
            for part in options.part or PARTS:
                asyncio.run(_run(part, who, found))
        finally:
            found.show("Serving")
    if options.json:
        values = {"machine": machine(), "figures": found.values}
        values["bars"] = {bar.name: [bar.value, bar.limit, bar.met] for bar in found.bars}
        options.json.write_text(json.dumps(values, indent=2) + "\n")
    finish(all(bar.met for bar in found.bars), options.check, "; ".join(map(str, found.bars)))


async def _run(part: str, who: Contenders, found: Figures) -> None:
    known = len(found.bars)
    await PARTS[part](who, found)
    print(f"{part}: {'; '.join(map(str, found.bars[known:]))}", flush=True)


if __name__ == "__main__":
    main()
