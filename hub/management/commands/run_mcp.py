"""`manage.py run_mcp`: the hub's tools over stdio, for agents that start their servers themselves."""

from __future__ import annotations

from typing import Any

import httpx
from django.core.management.base import BaseCommand, CommandParser

from hub.config import config

_PATIENCE_S = 60.0


class Command(BaseCommand):
    help = "Serve the hub's tools to an agent over stdio (Model Context Protocol); the hub must be running."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", help=f"of the hub; default: {config.url}")

    def handle(self, *args: Any, url: str | None, **options: Any) -> None:
        from hub.mcp.server import make_server

        headers = {"Authorization": f"Bearer {config.mcp_key}"} if config.mcp_key else {}
        if url is None:
            headers["Host"] = "localhost"  # config.url says why

        def reach() -> httpx.AsyncClient:
            return httpx.AsyncClient(
                base_url=url or config.url,
                headers=headers,
                timeout=_PATIENCE_S,
                trust_env=url is not None,  # no proxy gets the key on its way to this machine
            )

        make_server(reach).run("stdio")
