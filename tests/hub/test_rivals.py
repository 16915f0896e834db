"""What the comparison with rivals counts, and what it leaves out."""

import asyncio
import sys
from typing import Any

import psutil
import pytest

from benchmarks.rivals import __main__ as main
from benchmarks.rivals.environments import NotInstalled
from benchmarks.rivals.servers import LLAMA_CPP, RIVALS, _program
from benchmarks.rivals.trainers import TRAINERS, Trained, run
from benchmarks.setup.client import Answer, NoAnswer, Server
from benchmarks.setup.figures import Figures

STEP = 'print(\'{"tokens": %d, "seconds": %d, "loss": %d}\', flush=True)\n'


def trained(program: str, warm: int = 1) -> Trained:
    return run([sys.executable, "-c", program], warm)


def test_bars_are_over_rivals_alone() -> None:
    found = Figures()
    for name, rate in {"hub": 6, "hub, packed": 9, "slow": 2, "fast": 4, "llama.cpp": 60}.items():
        found.add("tokens/s", name, rate)

    found.hold("tokens/s", "hub", 2, beside=("llama.cpp",))

    assert {bar.name: bar.met for bar in found.bars} == {
        "tokens/s: times slow": True,
        "tokens/s: times fast": False,
    }


def test_first_steps_warm_a_trainer_up() -> None:
    assert trained(STEP % (1, 100, 9) + STEP % (30, 2, 3) + STEP % (10, 2, 1)).rate == 10
    assert trained(STEP % (1, 100, 9) + STEP % (30, 2, 3) + STEP % (10, 2, 1)).loss == 2


def test_the_most_that_a_trainer_held_is_its_own_memory() -> None:
    held = "import time\nheld = bytearray(200_000_000)\ndel held\ntime.sleep(2)\n" + STEP % (
        1,
        1,
        1,
    )

    assert 200_000_000 < trained(held, warm=0).peak < 250_000_000


def test_a_trainer_that_does_not_run_is_left_out_with_what_it_said() -> None:
    with pytest.raises(NotInstalled, match="1 at step 1: RuntimeError: no Metal"):
        trained(STEP % (1, 1, 1) + "raise RuntimeError('no Metal')")


def test_who_is_started_how() -> None:
    programs = {
        rival.name: _program(rival)[0].rpartition("/")[2] for rival in (*RIVALS, *LLAMA_CPP)
    }
    names = [*programs, *(trainer.name for trainer in TRAINERS)]

    assert programs["vllm-mlx"] == "launch.py"
    assert programs["llama.cpp"] == "llama_cpp.py"
    assert len(set(names)) == len(names)


def test_what_other_benchmarks_found_is_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"hub": [{"answer_s": 3.0}, {"answer_s": 5.0}], "mlx_lm.server": [{"answer_s": 4.0}]}
    held = {"hub": {"at rest": {"total": 270.0}, "with the model": {"total": 900.0}}}
    judged = {
        "answer_s": 4.0,
        "answer_times": 1.0,
        "memory_at_rest_times": 0.4,
        "memory_with_the_model_times": 1.4,
    }
    others: dict[str, dict[str, Any]] = {
        "serving": {
            "figures": {"edit": {"hub": [9.0]}},
            "bars": {"edit, times bare": [0.9, 1.0, False]},
        },
        "startup": {"starts": seconds, "memory": held, "judged": judged},
    }
    monkeypatch.setattr(main, "_measured", lambda name, *_: others[name])
    found = Figures()

    main._held_to_schemas(found)
    main._started(found)

    assert found.values["edit"]["hub"] == [9.0]
    assert found.values["cold start to the first answer, s"]["hub"] == [3.0, 5.0]
    assert found.values["memory of all processes with the model, MB"]["hub"] == [900.0]
    missed = [bar.name for bar in found.bars if not bar.met]
    assert missed == ["edit, times bare", "memory with the model: times"]


def test_greedy_texts_are_held_to_the_hubs_and_llama_cpp_is_only_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = {"hub": "Paris.", "same": "Paris. ", "other": "London.", "llama.cpp": "Rome."}

    async def ask(server: Server, *_: Any) -> Answer:
        if server.name == "silent":
            raise NoAnswer("silent did not answer within 600 s")
        return Answer(0, 1, 3, 3, tokens=21, text=texts[server.name])

    monkeypatch.setattr(main, "ask", ask)
    servers = {name: Server(name, "", "") for name in (*texts, "silent")}
    found = Figures()

    asyncio.run(main.one(main.Contenders(servers, {}, psutil.Process(), 2), found))

    assert found.values["one stream, tokens/s"]["llama.cpp"] == [10, 10]
    held = {bar.name: bar.met for bar in found.bars if bar.name.startswith("greedy")}
    assert held == {
        "greedy texts as the hub's, share: same": True,
        "greedy texts as the hub's, share: other": False,
    }
    assert not any("llama.cpp" in bar.name or "silent" in bar.name for bar in found.bars)


def test_a_round_without_an_answer_counts_for_nobody() -> None:
    asked: list[int] = []

    async def measure(server: Server, number: int) -> int:
        if server.name == "moody" and number in (1, 3):
            raise NoAnswer("moody did not answer: 200")
        if server.name == "hub":
            asked.append(number)
        return number

    servers = {name: Server(name, "", "") for name in ("hub", "moody")}
    found = asyncio.run(main._race(servers, 8, measure))
    assert found == [{"hub": n, "moody": n} for n in (0, 2, 4, 5, 6, 7, 8, 9)]
    found = asyncio.run(main._race(servers, 4, measure))
    assert found == [{"hub": n} for n in (0, 2, 3, 4)]
