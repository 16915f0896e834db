"""`manage.py run_engine`: the process that holds the models and generates."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from backends.base import LoadOptions
from inference.engine.memory.residents import Limits
from registry.errors import HubError
from registry.storage import paths

UNUSED_SHARE = 16  # of the budget, that freed buffers may take


class Command(BaseCommand):  # a HubCommand has tables, which `manage.py` does not load for it
    help = "Run the engine: models in memory, one generation thread, a Unix socket in storage."
    requires_system_checks = ()  # it serves no pages
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--max-rows", type=int, default=32, help="Requests generated at once (default 32)"
        )

    def handle(self, *args: Any, max_rows: int, **options: Any) -> None:
        # Read when MLX loads on Linux. OpenMP threads that spin for long take the cores from
        # everybody else; those that sleep at once are woken 200 times for each piece of a prompt,
        # which takes longer than the work. Some 50 µs bridge the gap between two products:
        # 128 tokens are read in 241 ms instead of 420 (two cores, 2026-11-25).
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
        from backends import get_backend
        from inference.engine.server import Engine

        if max_rows < 1:
            raise CommandError("--max-rows must be at least 1.")
        paths.make_folders()

        async def serve() -> None:
            engine = Engine(
                get_backend(settings.BACKEND),
                max_rows=max_rows,
                max_queue=settings.MAX_QUEUE,
                limits=_limits(),
                drain_s=settings.DRAIN_S,
            )
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, engine.stop)
            await engine.run(paths.engine_socket())

        try:
            asyncio.run(serve())
        except HubError as error:
            raise CommandError(str(error)) from error


def _limits() -> Limits:
    """Memory and how models are loaded, from the settings."""
    draft = paths.base_dir(settings.DRAFT_MODEL) if settings.DRAFT_MODEL else None
    if draft is not None and not draft.is_dir():
        raise CommandError(
            f"HUB_DRAFT_MODEL is {settings.DRAFT_MODEL}, and there is no such base model: import "
            "it first."
        )
    options = LoadOptions(
        cache_bytes=settings.PREFIX_CACHE_BYTES,
        cache_dir=paths.run_dir() / "prefixes" if settings.PREFIX_CACHE_ON_DISK else None,
        kv_bits=settings.KV_BITS,
        kv_after=settings.KV_AFTER,
        draft=draft,
        draft_tokens=settings.DRAFT_TOKENS,
        prompt_lookup=settings.PROMPT_LOOKUP,
        unused_bytes=settings.MEMORY_BUDGET_BYTES // UNUSED_SHARE,
        budget_bytes=settings.MEMORY_BUDGET_BYTES,
    )
    return Limits(settings.MEMORY_BUDGET_BYTES, settings.MODEL_IDLE_S, options)
