"""Imported by the settings before the libraries below, which import others for what the hub never asks of
them. Those are hidden for that moment, as if they were not installed: a quarter of a process's start.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec


@contextmanager
def hidden(name: str) -> Iterator[None]:
    """Within the block nobody finds the module `name`, unless it is imported already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # "not installed", to what imports it
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def bare(package: str) -> Iterator[None]:
    """Within the block modules of `package` are imported without what its `__init__` imports."""
    if package in sys.modules or (spec := find_spec(package)) is None:
        yield
        return
    sys.modules[package] = module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[package]


# huey has a storage in PostgreSQL; Django imports the driver itself when it needs it.
with hidden("psycopg"):
    import huey.storage  # noqa: F401
# structlog draws tracebacks with the first (see hub.monitoring.logs), and counts threads by the second.
with hidden("rich"), hidden("greenlet"):
    import structlog.dev
    import structlog.tracebacks  # noqa: F401
# django-ninja wants one signal of it; the rest are clients for tests, with jinja2 and unittest.
with bare("django.test"):
    import django.test.signals  # noqa: F401
