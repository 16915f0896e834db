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
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from backends.base import Message
from benchmarks.setup.client import Together
from benchmarks.setup.hub import ROOT

# How threads wait in the hub's engine (`manage.py run_engine`, `backends.mlx.device.prepare`), and
# how wide MLX walks a graph there; rivals get the same.
THREADS = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "5000",
    "MKL_THREADING_LAYER": "GNU",
    "MLX_BFS_MAX_WIDTH": "1000",
}


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
    from backends.mlx.selftest.rivals import BareModel

    model = BareModel(folder)

    def one(chat: list[Message], most: int) -> dict[str, float]:
        found = model.one(chat, most)
        return {"first_ms": found.firsts[0] * 1000, "rate": found.rate_after_first}

    def many(chats: list[list[Message]], most: int) -> dict[str, float]:
        found = model.many(chats, most)
        return _found(found.tokens, found.seconds, found.firsts)

    return one, many


def _hub(folder: Path) -> tuple[_One, _Many]:
    from backends.base import Sampling
    from backends.mlx import MLXBackend
    from hub.selftest.tried.rows import ask

    model = MLXBackend().load(folder)

    def many(chats: list[list[Message]], most: int) -> dict[str, float]:
        rows = ask(model, chats, Sampling(max_tokens=most))
        tokens = sum(len(row.deltas) for row in rows)
        return _found(tokens, max(row.last_s for row in rows), [row.first_s for row in rows])

    def one(chat: list[Message], most: int) -> dict[str, float]:
        (row,) = ask(model, [chat], Sampling(max_tokens=most))
        return {"first_ms": row.first_s * 1000, "rate": row.rate}

    return one, many


def _found(tokens: int, seconds: float, firsts: list[float]) -> dict[str, float]:
    first_ms = sorted(firsts)[len(firsts) // 2] * 1000
    return {"tokens": tokens, "seconds": seconds, "first_ms": first_ms}


if __name__ == "__main__":
    main()
