"""`manage.py run_web`: pages, API, streams and metrics in one uvicorn process."""

from __future__ import annotations

from typing import Any

import uvicorn
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from hub import access
from hub.config import config
from registry import tracking


class Command(BaseCommand):
    help = "Serve pages, API, streams and metrics."

    def handle(self, *args: Any, **options: Any) -> None:
        problem = access.problem(config)
        connection.close()
        if problem:
            raise CommandError(problem)
        tracking.warm()  # its import takes seconds, which the first history should not wait for
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
