"""A hub for the benchmark alone: real processes, a temporary storage folder, a free port."""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub.processes.supervisor import Supervisor

ROOT = Path(__file__).resolve().parents[2]


def arguments(description: str) -> argparse.Namespace:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    add_arguments(parser)
    return parser.parse_args()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shared options, for a benchmark that has others of its own."""
    parser.add_argument("--check", action="store_true", help="exit 1 when the bar is missed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")


def machine() -> str:
    """What the figures were measured on."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"


@contextmanager
def own_storage(backend: str, **environment: str) -> Iterator[Path]:
    """An empty storage folder with all tables, used by this process and the ones it starts."""
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as storage:
        _use_storage(storage, backend, environment)
        from hub.backups import databases
        from registry.storage import paths

        paths.make_folders()
        databases.migrate(databases.HUB)
        yield Path(storage)


@contextmanager
def nothing_sent_to_mlflow(storage: Path) -> Iterator[None]:
    """Hold the lock of whoever delivers: a hub on `storage` leaves it to this process meanwhile."""
    run = storage / "run"
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (run / "outbox.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def supervised_hub(backend: str, **environment: str) -> Iterator[Supervisor]:
    """A ready hub with all its processes. It ends, and its storage goes, with the block."""
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as storage:
        _use_storage(storage, backend, environment)
        from hub.config import load
        from hub.processes.supervisor import Supervisor

        with Supervisor(load(port=free_port()), output=lambda name, line: None) as hub:
            hub.wait_ready()
            yield hub


@contextmanager
def running_hub(backend: str = "mlx") -> Iterator[str]:
    """The address of a ready hub. It ends, and its storage goes, with the block."""
    with supervised_hub(backend) as hub:
        yield hub.url


def _use_storage(storage: str, backend: str, environment: dict[str, str]) -> None:
    """Point this process, and the ones it starts, at a hub in `storage`."""
    os.environ.update(
        HUB_STORAGE=storage,
        HUB_BACKEND=backend,
        HUB_ENV_FILE=os.devnull,
        DATABASE_URL="",
        MLFLOW_TRACKING_URI="",
        DJANGO_SETTINGS_MODULE="hub.settings",
        **environment,
    )
    import django  # reads the settings, so not before

    django.setup()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def finish(ok: bool, check: bool, bar: str) -> None:
    """Print whether the bar was met; with `check`, exit with 1 if it was not."""
    print(f"{'met' if ok else 'MISSED'}: {bar}")
    if check and not ok:
        sys.exit(1)
