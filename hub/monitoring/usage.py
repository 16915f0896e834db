"""What each of the hub's processes takes: memory, processor time, and how often it was started again."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator

import psutil
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from backends.mac.memory import footprint
from hub.monitoring.logs import PROCESSES, process_name
from hub.processes import presence, restarts

_NAMES = ("up", *PROCESSES, "background", "job", "mlflow")
_spent: dict[str, float] = defaultdict(float)  # seconds, by process
_seen: dict[tuple[int, float], float] = {}  # seconds of each process at the last look
_one_at_a_time = threading.Lock()


def metrics() -> Iterator[Metric]:
    """Of `up` and everything below it, or of each part that runs alone. What works for a job or a task
    counts as "job" or "task", whatever else a process has started as "other"."""
    memory: dict[str, int] = defaultdict(int)
    with _one_at_a_time:
        for name, process in _processes():
            try:
                with process.oneshot():
                    memory[name] += footprint(process.pid)
                    times = process.cpu_times()
                    key = (process.pid, process.create_time())
            except psutil.Error:  # it has ended
                continue
            now = float(times.user + times.system)
            _spent[name] += now - _seen.get(key, 0.0)
            _seen[key] = now
        for key in [key for key in _seen if not psutil.pid_exists(key[0])]:
            del _seen[key]
        spent = dict(_spent)
    held = GaugeMetricFamily(
        "hub_process_memory_bytes",
        "What a process holds: its footprint on a Mac, elsewhere its resident set",
        labels=["process"],
    )
    for name, nbytes in memory.items():
        held.add_metric([name], nbytes)
    yield held
    took = CounterMetricFamily(
        "hub_process_cpu_seconds", "Processor time of a process", labels=["process"]
    )
    for name, seconds in spent.items():
        took.add_metric([name], seconds)
    yield took
    again = CounterMetricFamily(
        "hub_process_restarts",
        "How often `up` has started a process again since it started itself",
        labels=["process"],
    )
    for name, count in restarts.counts().items():
        again.add_metric([name], count)
    yield again


def _processes() -> Iterator[tuple[str, psutil.Process]]:
    roots = [presence.pid("up")]
    if roots == [None]:
        roots = [presence.pid(name) for name in PROCESSES]
    for pid in {pid for pid in roots if pid is not None}:
        try:
            root = psutil.Process(pid)
            family = [root, *root.children(recursive=True)]
        except psutil.Error:
            continue
        for process in family:
            try:
                yield _name(process.cmdline()), process
            except psutil.Error:
                continue


def _name(command: list[str]) -> str:
    if "registry.mlflow.child" in command:
        return "mlflow"
    manage = next((n for n, word in enumerate(command) if word.endswith("manage.py")), None)
    if manage is None:
        return "other"
    name = process_name(command[manage:])
    return name if name in _NAMES else "task"
