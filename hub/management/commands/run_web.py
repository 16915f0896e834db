"""`manage.py run_web`: pages, API, streams and metrics in one uvicorn process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import math
import socket
import sys
from concurrent.futures import Future
from functools import partial
from types import FrameType
from typing import Any, cast

import structlog
import uvicorn
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from hub.config import config
from hub.management.failures import in_words
from hub.monitoring import pushed
from hub.processes import belonging, exposure, lifeline, preparation
from hub.web import later
from registry.background import shutdown

log = structlog.get_logger(__name__)
STARTUP_FAILURE = 3  # as uvicorn's own command exits
LAST_WORD_S = 2  # for the engine's final messages after its drain
_HEAD = b"HTTP/1."


class Command(BaseCommand):
    help = "Serve pages, API, streams and metrics."
    requires_system_checks = ()  # they load every page and schema; CI runs them

    def handle(self, *args: Any, **options: Any) -> None:
        gc.disable()  # a seventh of the time that the imports take; `later` turns it on again
        for module in ("hub.asgi", "hub.urls"):
            importlib.import_module(module)
        if problem := _problem():
            raise CommandError(problem)
        _pool()
        pushed.start()
        settings = uvicorn.Config(
            "hub.asgi:application",
            host=config.host,
            port=config.port,
            http=Protocol,
            log_config=None,  # Django's LOGGING applies
            access_log=False,  # django-structlog logs requests with their correlation ID
            server_header=False,
            lifespan="off",
            proxy_headers=False,
            # Responses may finish while the engine drains, and its final messages still arrive.
            timeout_graceful_shutdown=math.ceil(config.drain_s) + LAST_WORD_S,
        )
        server = Server(settings, config.ollama_port)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                server.run()
        finally:
            if server.imports is None:  # it cannot listen; `up` continues and starts it again
                _report_prepared()
        if not server.started:
            raise SystemExit(STARTUP_FAILURE)
        if server.imports and server.imports.done():
            server.imports.result()


class Server(uvicorn.Server):
    """Imports what it needs for pages once it listens, stops endless streams when it shuts down, and may
    listen on a second port."""

    def __init__(self, settings: uvicorn.Config, second_port: int | None = None) -> None:
        super().__init__(settings)
        self._second_port = second_port
        self.imports: Future[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await self._listen_again()
        self.imports = later.begin()
        self.imports.add_done_callback(self._imported)

    def _imported(self, imports: Future[None]) -> None:
        """Called in the thread that imports. `up` starts its other processes now: before, they would take
        a core from the first answer."""
        if imports.exception() is None:
            _report_prepared()
        else:
            self.should_exit = True

    async def _listen_again(self) -> None:
        if self._second_port is None:
            return
        settings = self.config
        kind: Any = settings.http_protocol_class
        protocol = partial(
            kind, config=settings, server_state=self.server_state, app_state=self.lifespan.state
        )
        try:
            second = await asyncio.get_running_loop().create_server(
                protocol, settings.host, self._second_port, backlog=settings.backlog
            )
        except OSError as error:
            log.error("second_port_unusable", port=self._second_port, error=str(error))
            sys.exit(STARTUP_FAILURE)
        self.servers.append(second)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        shutdown.requested.set()
        super().handle_exit(sig, frame)


class Gathered:
    """A transport that keeps an answer's head until its next piece, or until the event loop's turn ends: to
    write to a socket costs more than to make what is written. All else is the transport's own."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.bare = transport
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bare, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD):
            self._head = data
            asyncio.get_running_loop().call_soon(self._flush)
            return
        self.bare.write(data)

    def close(self) -> None:
        self._flush()
        self.bare.close()

    def _flush(self) -> None:
        if self._head:
            data, self._head = self._head, b""
            self.bare.write(data)


class Protocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's, with that transport."""

    transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("Any", Gathered(cast("asyncio.Transport", transport))))

    def handle_websocket_upgrade(self, *arguments: Any) -> None:
        self.transport = self.transport.bare
        super().handle_websocket_upgrade(*arguments)


def _problem() -> str | None:
    """Why this process must not serve, or None; `up` gets the same."""
    if lifeline.is_to_prepare():
        try:
            problem = preparation.prepare(config)
        except Exception as error:
            if (problem := in_words(error, "migrate")) is None:
                raise
        if problem:
            lifeline.report(problem)
        return problem
    try:
        return exposure.problem(config) or belonging.problem()
    except OperationalError as error:
        if not lifeline.was_prepared():
            raise
        log.warning(
            "database_away", reason=str(error)
        )  # pages and APIs report it to probes and clients
        return None
    finally:
        connection.close()


def _report_prepared() -> None:
    if lifeline.is_to_prepare():
        lifeline.report(None)


def _pool() -> None:
    if keep := getattr(connection, "keep_connections", None):  # PostgreSQL's
        keep()
