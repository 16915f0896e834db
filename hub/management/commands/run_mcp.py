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
        host = f"[{config.host}]" if ":" in config.host else config.host
        parser.add_argument(
            "--url", default=f"http://{host}:{config.port}", help="of the hub; default: %(default)s"
        )

    def handle(self, *args: Any, url: str, **options: Any) -> None:
        from hub.mcp.server import make_server

        headers = {"Authorization": f"Bearer {config.mcp_key}"} if config.mcp_key else {}

        def reach() -> httpx.AsyncClient:
            return httpx.AsyncClient(base_url=url, headers=headers, timeout=_PATIENCE_S)

        make_server(reach).run("stdio")
