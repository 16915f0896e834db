"""The ASGI application: HTTP to Django, `/ws/inference` to its Channels consumer."""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub.settings")
django.setup(set_prefix=False)  # which the imports below need

from channels.routing import ProtocolTypeRouter  # noqa: E402

from hub.config import config  # noqa: E402
from hub.monitoring import telemetry  # noqa: E402
from hub.web import later  # noqa: E402
from hub.web.inloop import OF_PAGES, Handler, by_path  # noqa: E402
from hub.web.ollama import own_port  # noqa: E402
from hub.web.sockets import websockets  # noqa: E402

application = own_port(
    later.waiting(
        telemetry.traced(
            ProtocolTypeRouter(
                {"http": by_path(Handler(OF_PAGES), Handler()), "websocket": websockets()}
            )
        )
    ),
    config.ollama_port,
)
