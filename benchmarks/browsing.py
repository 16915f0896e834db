"""How heavy and how quick each page is in Chromium, with 100,000 versions in the registry.

    uv run python -m benchmarks.browsing [--check] [--json FILE] [--before CHECKOUT] [--only PATTERN]

Seeds a storage with `manage.py seed`, starts the real web process on it and opens every page in a
new window with an empty cache. The bars: 300 ms until the server has answered, 300 KB compressed (the
page and all it loads, by gzip), 1 s until its scripts have run. With `--before` another checkout with an
environment of its own does the same on its own storage, page by page in turns; pages that it does
not have are left out there.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import gzip
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Error, Response
from rich.console import Console
from rich.table import Table

from benchmarks.setup.hub import ROOT, add_arguments, finish, free_port, machine
from tests.pages.browser import WHOLE, chromium

SERVER_MS, COMPRESSED_KB, READY_MS = 300.0, 300.0, 1000.0
ROUNDS = 5
QUIET_S = 0.3  # without a request, after which a page has loaded what it loads by itself
PAGES = (
    "/",
    "/start/",
    "/models/",
    "/models/{model}/",
    "/models/{model}/{version}/",
    "/models/{model}/{version}/training/",
    "/models/{model}/{version}/lineage/",
    "/models/{model}/{version}/files/",
    "/compare/?v={name}@{version}&v={name}@{other}",
    "/bases/",
    "/bases/{base}/",
    "/datasets/",
    "/datasets/{dataset}/",
    "/training/",
    "/training/new/",
    "/training/{job}/",
    "/requests/",
    "/requests/{request_id}/",
    "/playground/",
    "/find/?q=amber",
    "/system/",
    "/settings/",
    "/system/keys/",
)


@dataclass
class Hub:
    """A web process on a seeded storage, and the ids that its pages are opened with."""

    name: str
    url: str
    ids: dict[str, str] = field(default_factory=dict)

    def ask(self, path: str) -> Any:
        return httpx.get(f"{self.url}{path}", timeout=60).raise_for_status().json()

    def look_up(self) -> None:
        """The first of everything."""
        model = self.ask("/api/models?limit=1")["items"][0]
        first, other = self.ask(f"/api/models/{model['id']}/versions?limit=2")["items"]
        newest = {
            "base": "/api/bases?limit=1",
            "dataset": "/api/datasets?limit=1",
            "job": "/api/training/jobs?limit=1",
            "request": "/api/requests?limit=1",
        }
        self.ids = {"model": str(model["id"]), "name": model["name"]}
        self.ids |= {"version": first["version"], "other": other["version"]}
        for what, path in newest.items():
            with contextlib.suppress(httpx.HTTPStatusError):
                found = self.ask(path)["items"][0]
                self.ids[what] = str(found["id"])
                self.ids |= {"request_id": found["request_id"]} if "request_id" in found else {}

    def address(self, page: str) -> str | None:
        """None where this hub has no such page."""
        with contextlib.suppress(KeyError):
            address = self.url + page.format(**self.ids)
            if httpx.get(address, timeout=60).status_code == 200:
                return address
        return None


@dataclass
class Opened:
    """One page of one hub, a value for each time that it was opened."""

    server_ms: list[float] = field(default_factory=list)
    ready_ms: list[float] = field(default_factory=list)
    compressed_kb: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        return {name: round(statistics.median(found), 1) for name, found in vars(self).items()}


def open_page(browser: Browser, address: str, opened: Opened) -> None:
    """Open it with an empty cache and count what comes over the wire."""
    window = browser.new_context()
    page = window.new_page()
    answers: list[Response] = []
    heard = [time.monotonic()]

    def answered(response: Response) -> None:
        heard[0] = time.monotonic()
        if "text/event-stream" not in response.headers.get("content-type", ""):
            answers.append(response)

    page.on("response", answered)
    page.goto(address)
    while time.monotonic() - heard[0] < QUIET_S:
        page.wait_for_timeout(50)
    timing = page.evaluate("performance.getEntriesByType('navigation')[0].toJSON()")
    opened.server_ms.append(timing["responseEnd"] - timing["requestStart"])
    opened.ready_ms.append(timing["domContentLoadedEventEnd"])
    opened.compressed_kb.append(sum(map(compressed, answers)) / 1000)
    window.close()


def compressed(response: Response) -> int:
    """Bytes of an answer by gzip; on loopback the hub sends files as they are."""
    try:
        return len(gzip.compress(response.body()))
    except Error:  # it has none: a redirection, or nothing new
        return 0


@contextlib.contextmanager
def hub(name: str, checkout: Path, folder: Path) -> Iterator[Hub]:
    """The checkout's web process on a storage that its own program has seeded."""
    port = free_port()
    environment = {
        **{k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"},
        "HUB_STORAGE": str(folder),
        "HUB_PORT": str(port),
        "HUB_BACKEND": "fake",
        "HUB_ENV_FILE": os.devnull,
        "DATABASE_URL": "",
        "MLFLOW_TRACKING_URI": "",
    }
    manage = [str(checkout / ".venv" / "bin" / "python"), str(checkout / "manage.py")]
    for command in (["migrate", "--verbosity=0"], ["seed"]):
        subprocess.run(
            [*manage, *command],
            cwd=checkout,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    process = subprocess.Popen(
        [*manage, "run_web"],
        cwd=checkout,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        found = Hub(name, f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{found.url}/health")
                break
            time.sleep(0.2)
        found.look_up()
        yield found
    finally:
        process.terminate()
        process.wait(20)


def measure(hubs: list[Hub], only: str) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by page and hub; the hubs take turns."""
    pages = [page for page in PAGES if fnmatch.fnmatchcase(page, only)]
    known = {(page, one.name): one.address(page) for page in pages for one in hubs}
    opened = {key: Opened() for key, address in known.items() if address}
    with chromium(WHOLE) as browser:
        for _ in range(ROUNDS):
            for key, found in opened.items():
                address = known[key]
                assert address is not None
                open_page(browser, address, found)
    figures: dict[str, dict[str, dict[str, float]]] = {page: {} for page in pages}
    for (page, name), found in opened.items():
        figures[page][name] = found.figures()
    return figures


def show(figures: dict[str, dict[str, dict[str, float]]], names: list[str]) -> None:
    load = os.getloadavg()[0]
    table = Table(title=f"medians of {ROUNDS} ({machine()}, load {load:.1f})")
    table.add_column("page")
    for column in ("server ms", "ready ms", "KB"):
        for name in names:
            table.add_column(f"{column}, {name}" if len(names) > 1 else column, justify="right")
    for page, by_hub in figures.items():
        cells = [
            f"{by_hub[name][column]:.0f}" if name in by_hub else "none"
            for column in ("server_ms", "ready_ms", "compressed_kb")
            for name in names
        ]
        table.add_row(page, *cells)
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    parser.add_argument(
        "--before", type=Path, metavar="CHECKOUT", help="another checkout, measured in turns"
    )
    parser.add_argument("--only", metavar="PATTERN", default="*", help="only pages that match")
    options = parser.parse_args()
    checkouts = {"now": ROOT} | ({"before": options.before} if options.before else {})
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-browsing-")))
        hubs = [
            stack.enter_context(hub(name, checkout.resolve(), folder / name))
            for name, checkout in checkouts.items()
        ]
        figures = measure(hubs, options.only)
    show(figures, list(checkouts))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "pages": figures}, indent=2))
    worst = {
        column: max(page["now"][column] for page in figures.values() if "now" in page)
        for column in ("server_ms", "ready_ms", "compressed_kb")
    }
    ok = (
        worst["server_ms"] < SERVER_MS
        and worst["ready_ms"] < READY_MS
        and worst["compressed_kb"] < COMPRESSED_KB
    )
    text = (
        f"slowest answer {worst['server_ms']:.0f} ms (bar {SERVER_MS:.0f}), ready after "
        f"{worst['ready_ms']:.0f} ms ({READY_MS:.0f}), {worst['compressed_kb']:.0f} KB ({COMPRESSED_KB:.0f})"
    )
    finish(ok, options.check, text)


if __name__ == "__main__":
    main()
