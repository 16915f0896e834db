"""`manage.py run_web`: pages, API, streams and metrics in one uvicorn process."""

from __future__ import annotations

import gc
import importlib
import threading
from typing import Any

import uvicorn
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from hub import access
from hub.config import config
from registry import tracking

_WARM_AFTER_S = 10.0


class Command(BaseCommand):
    help = "Serve pages, API, streams and metrics."

    def handle(self, *args: Any, **options: Any) -> None:
        problem = access.problem(config)
        connection.close()
        if problem:
            raise CommandError(problem)
        # Its import takes seconds, which the first history should not wait for, nor the first page.
        warming = threading.Timer(_WARM_AFTER_S, tracking.warm)
        warming.daemon = True
        warming.start()
        _pool()
        _freeze()
        uvicorn.run(
            "hub.asgi:application",
            host=config.host,
            port=config.port,
            log_config=None,  # Django's LOGGING decides
            access_log=False,  # django-structlog logs requests, with their correlation id
            server_header=False,
            lifespan="off",
            proxy_headers=False,
            timeout_graceful_shutdown=3,  # open streams end then; `up` kills after 8 s
        )


def _pool() -> None:
    """Keep connections to PostgreSQL between requests. Each request has a thread of its own here,
    so that Django would open one for each; a server's process that knows no table yet plans slowly
    (8 ms a page, 2026-11-24). As many as the server takes by default, less those of the other processes: a
    stream may hold its own until it ends."""
    if connection.vendor == "postgresql":
        connection.settings_dict["OPTIONS"]["pool"] = {"min_size": 2, "max_size": 80}


def _freeze() -> None:
    """Import all that answers, and have the garbage collector look at none of it again: a full
    collection of some 140,000 lasting objects held a request up by 54 ms (two cores, 2026-11-24)."""
    for module in ("hub.asgi", "hub.urls"):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
