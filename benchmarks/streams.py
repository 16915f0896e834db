"""500 SSE streams at 20 tokens/s from the fake backend, and what a token costs the web process.

    uv run python -m benchmarks.streams [--check] [--json FILE]

A real web process and a real engine with the fake backend, which computes nothing and keeps its
pace. The client reads raw sockets in this process, so that it costs little itself, and counts the
web process's CPU time between the moment when all streams run and the first one's end. Bars: no
stream cut short, the 99th percentile of the gaps between tokens at most 100 ms, at most 150 µs of
web CPU a token. A second part measures what the web adds to the first token: the time over HTTP
less the time over the engine's own socket, one request at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from benchmarks.setup.hub import arguments, finish, free_port, machine

STREAMS = 500
RATE = 20  # tokens per second of each stream
WORDS = 400  # tokens of each answer: 20 s
FIRST_TOKENS = 200
GAP_BAR_MS, CPU_BAR_US, FIRST_BAR_MS = 100.0, 150.0, 10.0
START_S = 120.0
LIMIT_S = 180.0  # of the whole measurement


@dataclass
class Stream:
    """One answer: when each piece of it was read."""

    moments: list[float] = field(default_factory=list)
    text: str = ""
    complete: bool = False


@contextmanager
def running(words: int, rate: int) -> Iterator[tuple[str, int]]:
    """The address and the process id of a web process with a fake engine."""
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as storage:
        port = free_port()
        env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "hub.settings",
            "HUB_STORAGE": storage,
            "HUB_BACKEND": "fake",
            "HUB_ENV_FILE": os.devnull,
            "HUB_LOG_FORMAT": "json",
            "HUB_PORT": str(port),
            "HUB_MAX_QUEUE": str(2 * STREAMS),
            "HUB_FAKE_TOKENS_PER_SECOND": str(rate),
            "HUB_FAKE_REPLY_WORDS": str(words),
            "DATABASE_URL": "",
        }
        subprocess.run([sys.executable, "-m", "tests.inference.seed"], env=env, check=True)
        with (Path(storage) / "processes.log").open("ab") as log:
            commands = (("run_engine", "--max-rows", str(STREAMS)), ("run_web",))
            processes = [
                subprocess.Popen([sys.executable, "manage.py", *command], env=env, stderr=log)
                for command in commands
            ]
            url = f"http://127.0.0.1:{port}"
            try:
                _wait_ready(url, processes)
                yield url, processes[1].pid
            finally:
                for process in processes:
                    process.terminate()
                for process in processes:
                    process.wait(20)


def _wait_ready(url: str, processes: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and all(p.poll() is None for p in processes):
        try:
            if "pid" in httpx.get(f"{url}/api/inference/engine", timeout=5).json():
                return
        except (httpx.HTTPError, ValueError):
            pass
        time.sleep(0.1)
    raise SystemExit("Web and engine did not become ready.")


def request(url: str, body: dict[str, Any]) -> bytes:
    """The bytes of a chat request."""
    content = json.dumps({"model": "calendar", **body}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + content


async def read(url: str, number: int, words: int) -> Stream:
    """One stream to its end."""
    stream, address = Stream(), urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    question = {"role": "user", "content": f"Tell me story number {number}."}
    body = {"messages": [question], "max_tokens": words + 200, "stream": True}
    writer.write(request(url, body))
    parts: list[bytes] = []
    try:
        while data := await reader.read(65536):
            if b'"content": "' in data:
                stream.moments.append(time.perf_counter())
            parts.append(data)
    finally:
        writer.close()
    whole = b"".join(parts)
    stream.complete = b"data: [DONE]" in whole and b'"finish_reason": "stop"' in whole
    stream.text = "".join(_texts(whole))
    return stream


def _texts(whole: bytes) -> Iterator[str]:
    for line in whole.split(b"\n"):
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:])["choices"]:
                yield choice["delta"].get("content") or ""


async def many(url: str, web: psutil.Process, engine: httpx.Client) -> dict[str, Any]:
    """All streams together; figures over the time in which every one of them runs."""
    tasks = [asyncio.create_task(read(url, number, WORDS)) for number in range(STREAMS)]
    while (await asyncio.to_thread(_stats, engine))["running"] < STREAMS:
        if any(task.done() for task in tasks):
            raise SystemExit("A stream ended before all of them ran.")
        await asyncio.sleep(0.2)
    await asyncio.sleep(1)
    before = _sample(web, await asyncio.to_thread(_stats, engine))
    await asyncio.sleep(WORDS / RATE / 2)
    after = _sample(web, await asyncio.to_thread(_stats, engine))
    streams = await asyncio.gather(*tasks)
    window = [
        (later - earlier) * 1000
        for stream in streams
        for earlier, later in zip(stream.moments, stream.moments[1:], strict=False)
        if before["moment"] <= earlier and later <= after["moment"]
    ]
    tokens = after["tokens"] - before["tokens"]
    seconds = after["moment"] - before["moment"]
    gaps = sorted(window)
    return {
        "streams": STREAMS,
        "cut_short": sum(not s.complete or len(s.text.split()) != WORDS for s in streams),
        "tokens_per_second": round(tokens / seconds),
        "gap_p50_ms": round(gaps[len(gaps) // 2], 1),
        "gap_p99_ms": round(gaps[int(len(gaps) * 0.99)], 1),
        "web_cpu_us_per_token": round((after["cpu"] - before["cpu"]) / tokens * 1e6, 1),
        "web_cpu": round((after["cpu"] - before["cpu"]) / seconds, 2),
    }


def _stats(client: httpx.Client) -> dict[str, Any]:
    return dict(client.get("/api/inference/engine").raise_for_status().json())


def _sample(web: psutil.Process, stats: dict[str, Any]) -> dict[str, float]:
    times = web.cpu_times()
    return {
        "moment": time.perf_counter(),
        "cpu": times.user + times.system,
        "tokens": stats["tokens_generated"],
    }


def first_token(url: str) -> dict[str, float]:
    """Milliseconds from the request to the first token, as the client sees it and as the engine
    measured it; the difference is the web process's own."""
    over: list[float] = []
    with httpx.Client(base_url=url, timeout=60) as client:
        for number in range(FIRST_TOKENS + 20):
            question = {"role": "user", "content": f"{number} is a number."}
            body = {"model": "calendar", "messages": [question], "max_tokens": 1, "stream": True}
            began = time.perf_counter()
            with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                for line in answer.iter_lines():
                    if '"content": "' in line and '"content": ""' not in line:
                        over.append((time.perf_counter() - began) * 1000)
        page = client.get("/api/requests", params={"limit": FIRST_TOKENS}).json()["items"]
    inside = sorted(row["first_token_ms"] for row in page)
    seen = sorted(over[20:])  # the first ones warm up
    return {
        "first_token_p50_ms": round(seen[len(seen) // 2], 2),
        "first_token_p95_ms": round(seen[int(len(seen) * 0.95)], 2),
        "engine_first_token_p50_ms": round(inside[len(inside) // 2], 2),
        "web_adds_p95_ms": round(seen[int(len(seen) * 0.95)] - inside[len(inside) // 2], 2),
    }


def main() -> None:
    options: argparse.Namespace = arguments(__doc__.splitlines()[0])
    with running(WORDS, RATE) as (url, pid), httpx.Client(base_url=url, timeout=60) as client:
        figures = asyncio.run(asyncio.wait_for(many(url, psutil.Process(pid), client), LIMIT_S))
    with running(8, 10_000) as (url, _):
        figures |= first_token(url)
    figures["machine"] = machine()
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    finish(
        figures["cut_short"] == 0
        and figures["gap_p99_ms"] <= GAP_BAR_MS
        and figures["web_cpu_us_per_token"] <= CPU_BAR_US
        and figures["web_adds_p95_ms"] <= FIRST_BAR_MS,
        options.check,
        f"none of {STREAMS} streams cut short, p99 gap ≤ {GAP_BAR_MS:.0f} ms, web CPU ≤ "
        f"{CPU_BAR_US:.0f} µs a token, the web adds ≤ {FIRST_BAR_MS:.0f} ms to the first token",
    )


if __name__ == "__main__":
    main()
