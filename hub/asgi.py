"""The ASGI application: HTTP to Django, `/ws/inference` to its Channels consumer."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub.settings")
_http = get_asgi_application()  # sets Django up, which the imports below need

from channels.routing import ProtocolTypeRouter  # noqa: E402

from hub.config import config  # noqa: E402
from hub.web.ollama import own_port  # noqa: E402
from hub.web.sockets import websockets  # noqa: E402

application = own_port(
    ProtocolTypeRouter({"http": _http, "websocket": websockets()}), config.ollama_port
)
