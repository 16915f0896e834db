"""What traces cost: processor time of web and engine per streamed token, with traces sent and without.

Two hubs with the fake backend, which takes no time for a token of its own, answer in turns; a receiver
takes what one of them sends. What a token costs more is set against a model that writes 100 tokens a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil

from benchmarks.setup.client import Server, ask_all
from benchmarks.setup.hub import ROOT, arguments, finish, free_port, machine

ROUNDS, STREAMS, TOKENS = 9, 8, 400
TOKEN_S = 0.01
MOST = 0.01  # of the time of a token


class Receive(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def receiver() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Receive) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def hub(**environment: str) -> Iterator[tuple[str, psutil.Process]]:
    """The address of a ready hub, and its `up`."""
    port = str(free_port())
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as storage:
        known = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        own = {"HUB_STORAGE": storage, "HUB_BACKEND": "fake", "HUB_ENV_FILE": os.devnull}
        words = {"HUB_FAKE_REPLY_WORDS": str(10 * TOKENS)}
        up = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--port", port],
            cwd=ROOT,
            env={**known, **own, **words, "DATABASE_URL": "", **environment},
            stderr=subprocess.DEVNULL,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait(url)
            yield url, psutil.Process(up.pid)
        finally:
            up.terminate()
            up.wait()


def wait(url: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.3)
    raise SystemExit(f"{url} is not ready.")


def spent(up: psutil.Process) -> float:
    """Seconds of web and engine."""
    answering = [one for one in up.children() if {"run_web", "run_engine"} & set(one.cmdline())]
    return sum(sum(one.cpu_times()[:2]) for one in answering)


def main() -> None:
    options = arguments(__doc__ or "")
    costs: dict[str, list[float]] = {"off": [], "on": []}
    with ExitStack() as stack:
        endpoint = stack.enter_context(receiver())
        hubs = {
            "off": stack.enter_context(hub()),
            "on": stack.enter_context(hub(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)),
        }
        servers = {}
        for name, (url, _) in hubs.items():
            made = httpx.post(f"{url}/api/bases", json={"source": "starter"}, timeout=60)
            servers[name] = Server(name, url, f"base:{made.raise_for_status().json()['name']}")
        chats = [[{"role": "user", "content": f"Hello {n}"}] for n in range(STREAMS)]
        for number in range(ROUNDS + 1):
            for name in ("off", "on") if number % 2 else ("on", "off"):
                before = spent(hubs[name][1])
                asyncio.run(ask_all([servers[name]], chats, TOKENS))  # type: ignore[arg-type]
                if number:  # the first loads the model
                    took = spent(hubs[name][1]) - before
                    costs[name].append(took / (STREAMS * TOKENS) * 1e6)
    more = [on - off for on, off in zip(costs["on"], costs["off"], strict=True)]
    share = statistics.median(more) / 1e6 / TOKEN_S
    figures = {
        "machine": machine(),
        "off_us": statistics.median(costs["off"]),
        "on_us": statistics.median(costs["on"]),
        "ratio": statistics.median(
            on / off for on, off in zip(costs["on"], costs["off"], strict=True)
        ),
        "share_of_a_token": share,
    }
    print(json.dumps(figures, indent=2))
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2))
    finish(share <= MOST, options.check, f"traces cost {share:.2%} of decoding (≤ {MOST:.0%})")


if __name__ == "__main__":
    main()
