"""`manage.py run_web`: pages, API, streams and metrics in one uvicorn process."""

from __future__ import annotations

import contextlib
import gc
import importlib
import math
import threading
from types import FrameType
from typing import Any

import uvicorn
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from hub.config import config
from hub.processes import exposure
from registry.background import shutdown
from registry.mlflow import tracking

_WARM_AFTER_S = 10.0
STARTUP_FAILURE = 3  # as uvicorn's own command exits
LAST_WORD_S = 2  # for what the engine says when the time of its drain is over


class Command(BaseCommand):
    help = "Serve pages, API, streams and metrics."

    def handle(self, *args: Any, **options: Any) -> None:
        problem = exposure.problem(config)
        connection.close()
        if problem:
            raise CommandError(problem)
        # Its import takes seconds, which the first history should not wait for, nor the first page.
        warming = threading.Timer(_WARM_AFTER_S, tracking.warm)
        warming.daemon = True
        warming.start()
        _pool()
        _freeze()
        settings = uvicorn.Config(
            "hub.asgi:application",
            host=config.host,
            port=config.port,
            log_config=None,  # Django's LOGGING decides
            access_log=False,  # django-structlog logs requests, with their correlation id
            server_header=False,
            lifespan="off",
            proxy_headers=False,
            # Answers finish for as long as the engine lets them, and its last word passes.
            timeout_graceful_shutdown=math.ceil(config.drain_s) + LAST_WORD_S,
        )
        server = Server(settings)
        with contextlib.suppress(KeyboardInterrupt):
            server.run()
        if not server.started:
            raise SystemExit(STARTUP_FAILURE)


class Server(uvicorn.Server):
    """Tells what would go on for ever that the end has begun."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        shutdown.requested.set()
        super().handle_exit(sig, frame)


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
