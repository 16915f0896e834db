"""How fast pages answer while a training job and two streams use the machine.

    uv run python -m benchmarks.pages [--check] [--json FILE]

A real hub with the bundled real model; the bar is 300 ms for the slowest answer of every page.
For comparison each page is first asked on the same hub at rest.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.setup.hub import arguments, finish, machine, running_hub

BAR_MS = 300.0
ROUNDS = 12
STREAMS = 2
PAUSE_S = 0.05  # a person does not ask for all pages at once


@dataclass
class Streams:
    """Chats that stream one answer after another until `stop`."""

    url: str
    model: str
    stop: threading.Event = field(default_factory=threading.Event)
    tokens: int = 0

    def start(self) -> None:
        for number in range(STREAMS):
            threading.Thread(target=self._chat, args=(number,), daemon=True).start()

    def _chat(self, number: int) -> None:
        with httpx.Client(base_url=self.url, timeout=120) as client:
            while not self.stop.is_set():
                body = {
                    "model": self.model,
                    "stream": True,
                    "max_tokens": 200,
                    "messages": [{"role": "user", "content": f"Tell me story number {number}."}],
                }
                with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                    for line in answer.iter_lines():
                        self.tokens += line.startswith("data: {")
                        if self.stop.is_set():
                            break


def measure(client: httpx.Client, pages: list[str]) -> dict[str, list[float]]:
    """Milliseconds of each page's whole answers, in rounds over all pages."""
    times: dict[str, list[float]] = {page: [] for page in pages}
    for _ in range(ROUNDS):
        for page in pages:
            began = time.perf_counter()
            client.get(page).raise_for_status()
            times[page].append((time.perf_counter() - began) * 1000)
            time.sleep(PAUSE_S)
    return times


def prepare(client: httpx.Client) -> tuple[list[str], dict[str, Any]]:
    """Register the starter; the pages to ask for and the body that queues a job."""
    from registry.bases.registration import register_starter
    from registry.datasets.snapshots import register_starter_dataset

    base, dataset = register_starter(), register_starter_dataset()
    body = {"name": "bench", "base_model": base.name}
    model = client.post("/api/models", json=body).raise_for_status().json()
    job = {
        "model_id": model["id"],
        "dataset_id": dataset.pk,
        "config": {"iters": 10_000, "batch_size": 4},
    }
    return [
        "/",
        "/models/",
        f"/models/{model['id']}/",
        "/datasets/",
        f"/datasets/{dataset.pk}/",
        "/training/",
        "/playground/",
        "/requests/",
        "/system/",
        "/api/models",
        "/health",
    ], job


def under_load(client: httpx.Client, url: str, pages: list[str], job: dict[str, Any]) -> Any:
    """The pages' times beside a job that trains and streams that run, and what those did."""
    queued = client.post("/api/training/jobs", json=job).raise_for_status().json()
    path = f"/api/training/jobs/{queued['id']}"
    streams = Streams(url, "base:SmolLM2-135M-Instruct")
    streams.start()
    deadline = time.monotonic() + 180
    while client.get(path).json()["iteration"] < 2 or streams.tokens < 20:
        if time.monotonic() > deadline:
            raise SystemExit("Training and streams did not start within three minutes.")
        time.sleep(0.5)
    before, began = streams.tokens, time.monotonic()
    times = measure(client, [*pages, f"/training/{queued['id']}/"])
    rate = (streams.tokens - before) / (time.monotonic() - began)
    trained = client.get(path).json()["iteration"]
    streams.stop.set()
    client.post(f"{path}/cancel")
    return times, {"stream_tokens_per_second": round(rate, 1), "iterations_done": trained}


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    with running_hub() as url, httpx.Client(base_url=url, timeout=60) as client:
        pages, job = prepare(client)
        measure(client, pages)  # templates and caches
        rest = measure(client, pages)
        load, beside = under_load(client, url, pages, job)
    table = Table(title=f"Pages, ms over {ROUNDS} rounds ({machine()})")
    for heading in ("page", "at rest p50", "under load p50", "under load max"):
        table.add_column(heading, justify="left" if heading == "page" else "right")
    for page, times in load.items():
        quiet = f"{statistics.median(rest[page]):.0f}" if page in rest else ""
        table.add_row(page, quiet, f"{statistics.median(times):.0f}", f"{max(times):.0f}")
    Console().print(table)
    print(f"Meanwhile: {beside}")
    slowest = max(max(times) for times in load.values())
    if options.json:
        figures = {"machine": machine(), "rest_ms": rest, "load_ms": load, **beside}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    finish(slowest < BAR_MS, options.check, f"slowest answer {slowest:.0f} ms, bar {BAR_MS:.0f} ms")


if __name__ == "__main__":
    main()
