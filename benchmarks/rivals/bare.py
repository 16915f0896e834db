"""mlx-lm without a server, in a process of its own: `stream_generate` and `BatchGenerator`.

    with Bare(folder) as bare: bare.ask(chat, 48); bare.ask_all(chats, 48)

It gets the hub's fast BLAS and all cores. The child reads one JSON line a request and writes one
a result; times begin where the client's would, with the text of the chat. With `hub=True` it is
the hub's own backend without engine and web, which shows what those two cost.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from backends.base import Message
from benchmarks.setup.client import Together
from benchmarks.setup.hub import ROOT

# How OpenMP's threads wait in the hub's engine (`manage.py run_engine`); rivals get the same.
THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "5000"}


class Bare:
    """The parent's side of one child."""

    def __init__(self, model: Path, *, hub: bool = False) -> None:
        self._command = [sys.executable, "-m", "benchmarks.rivals.bare", str(model)]
        self._command += ["--hub"] * hub

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env={**os.environ, **THREADS},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BrokenPipeError):
            self._child.communicate("", timeout=20)

    def ask(self, chat: Sequence[Message], max_tokens: int) -> dict[str, float]:
        """One answer: `first_ms` and `rate`, tokens a second after the first."""
        return self._call({"chat": list(chat), "max_tokens": max_tokens})

    def ask_all(self, chats: Sequence[Sequence[Message]], max_tokens: int) -> Together:
        """All chats in one batch."""
        found = self._call({"chats": [list(chat) for chat in chats], "max_tokens": max_tokens})
        return Together(int(found["tokens"]), found["seconds"], found["first_ms"])

    def _call(self, request: dict[str, Any]) -> dict[str, float]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(request) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            raise SystemExit("The bare mlx-lm process ended; see its error above.")
        return dict(json.loads(line))


# --------------------------------------------------------------------------- the child


def main() -> None:
    from backends.mlx.device import prepare

    prepare()
    one, many = (_hub if "--hub" in sys.argv[2:] else _mlx_lm)(Path(sys.argv[1]))
    for line in sys.stdin:
        asked = json.loads(line)
        found = (
            one(asked["chat"], asked["max_tokens"])
            if "chat" in asked
            else many(asked["chats"], asked["max_tokens"])
        )
        print(json.dumps(found), flush=True)


type _One = Callable[[list[Message], int], dict[str, float]]
type _Many = Callable[[list[list[Message]], int], dict[str, float]]


def _mlx_lm(folder: Path) -> tuple[_One, _Many]:
    import mlx_lm  # noqa: TID251
    from mlx_lm.generate import BatchGenerator  # noqa: TID251

    loaded: Any = mlx_lm.load(str(folder))
    model, tokenizer = loaded[:2]

    def tokens(chat: list[Message]) -> list[int]:
        return list(tokenizer.apply_chat_template(chat, add_generation_prompt=True))

    def one(chat: list[Message], most: int) -> dict[str, float]:
        began, first, last, count = time.perf_counter(), 0.0, 0.0, 0
        for answer in mlx_lm.stream_generate(model, tokenizer, tokens(chat), max_tokens=most):
            if answer.finish_reason == "stop":
                break  # an end that is no text
            last, count = time.perf_counter(), count + 1
            first = first or last
        return {"first_ms": (first - began) * 1000, "rate": (count - 1) / (last - first)}

    def many(chats: list[list[Message]], most: int) -> dict[str, float]:
        began = time.perf_counter()
        ends = [[token] for token in tokenizer.eos_token_ids]
        generator: Any = BatchGenerator(model, stop_tokens=ends)
        running = generator.insert([tokens(chat) for chat in chats], [most] * len(chats))
        firsts: dict[int, float] = {}
        count = 0
        while responses := generator.next_generated():
            for response in responses:
                firsts.setdefault(response.uid, time.perf_counter() - began)
                count += 1
        seconds = time.perf_counter() - began
        generator.close()
        return _found(count, seconds, [firsts[uid] for uid in running])

    return one, many


def _hub(folder: Path) -> tuple[_One, _Many]:
    from backends.base import Sampling
    from backends.mlx import MLXBackend

    model = MLXBackend().load(folder)

    def many(chats: list[list[Message]], most: int) -> dict[str, float]:
        firsts: dict[str, float] = {}
        began, count = time.perf_counter(), 0
        for number, chat in enumerate(chats):
            model.insert(str(number), model.encode(chat), None, Sampling(max_tokens=most))
        running = len(chats)
        while running:
            for delta in model.step():
                firsts.setdefault(delta.uid, time.perf_counter() - began)
                count += 1
                running -= delta.finish_reason is not None
        return _found(count, time.perf_counter() - began, list(firsts.values()))

    def one(chat: list[Message], most: int) -> dict[str, float]:
        found = many([chat], most)
        after = found["seconds"] - found["first_ms"] / 1000
        return {"first_ms": found["first_ms"], "rate": (found["tokens"] - 1) / after}

    return one, many


def _found(tokens: int, seconds: float, firsts: list[float]) -> dict[str, float]:
    first_ms = sorted(firsts)[len(firsts) // 2] * 1000
    return {"tokens": tokens, "seconds": seconds, "first_ms": first_ms}


if __name__ == "__main__":
    main()
