"""How a request goes through Django's handler: an answer's stream starts no thread of its own."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
import structlog
from asgiref.sync import sync_to_async
from django.core.signals import request_finished, request_started
from django.db.backends.signals import connection_created
from structlog.testing import capture_logs

from backends.fake import FakeBackend
from hub.web.inloop import Handler
from inference.gateway import generation
from tests.inference.builders import make_base, make_version
from tests.inference.engines import HELLO, running_engine

pytestmark = pytest.mark.usefixtures("db_in_threads")


async def ask(
    path: str, body: dict[str, Any] | None = None, *, leave_after: bytes | None = None
) -> bytes:
    """The body of the answer, from the ASGI application; the client leaves after a part with those bytes."""
    sent = json.dumps(body).encode() if body else b""
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    headers.append((b"content-length", str(len(sent)).encode()))
    headers.append((b"x-correlation-id", b"c-7"))
    scope = {
        "type": "http",
        "method": "POST" if body else "GET",
        "path": path,
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }
    came = [{"type": "http.request", "body": sent}]
    parts: list[bytes] = []
    leaving = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if came:
            return came.pop()
        await leaving.wait()
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        parts.append(message.get("body", b""))
        if leave_after is not None and leave_after in parts[-1]:
            leaving.set()

    await Handler()(scope, receive, send)
    return b"".join(parts)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that were started."""
    names: list[str] = []
    start = threading.Thread.start

    def noted(self: threading.Thread) -> None:
        names.append(self.name)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", noted)
    return names


async def test_a_streamed_answer_starts_no_thread(started: list[str]) -> None:
    await sync_to_async(lambda: make_version(make_base()))()
    body = {"model": "calendar", "messages": HELLO, "stream": True, "max_tokens": 3}
    async with running_engine():
        await ask("/v1/chat/completions", body)  # the database's own thread, and the middlewares
        await generation.aresolve("calendar")
        del started[:]
        answer = await ask("/v1/chat/completions", body)
    assert b"data: [DONE]" in answer
    assert started == []


async def test_a_page_has_its_thread_and_closes_its_connection_there(started: list[str]) -> None:
    opened: list[str] = []
    closed: list[str] = []

    def note(sender: object, **_: object) -> None:
        opened.append(threading.current_thread().name)

    def end(sender: object, **_: object) -> None:
        closed.append(threading.current_thread().name)

    connection_created.connect(note)
    request_finished.connect(end)
    try:
        await ask("/models/")
    finally:
        connection_created.disconnect(note)
        request_finished.disconnect(end)
    assert started
    assert set(opened) <= set(closed)
    assert threading.current_thread().name not in closed


async def test_nothing_that_listens_to_a_request_is_a_coroutine() -> None:
    """They are called on the event loop, where no coroutine can be waited for."""
    for signal in (request_started, request_finished):
        assert not any(is_async for *_, is_async in signal.receivers)


async def test_the_end_of_a_stream_is_logged_under_its_correlation_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await sync_to_async(lambda: make_version(make_base()))()
    body = {"model": "calendar", "messages": HELLO, "stream": True}
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        async with running_engine(FakeBackend(tokens_per_second=50, reply_words=200)):
            answer = await ask("/v1/chat/completions", body, leave_after=b'"content": "')
            assert b"[DONE]" not in answer

            async def broken(*_: object) -> None:
                raise RuntimeError("The socket is gone.")

            monkeypatch.setattr(Handler, "send_response", broken)
            with pytest.raises(RuntimeError):
                await ask("/v1/chat/completions", body)
    ends = [entry for entry in logs if entry["event"].startswith(("streaming_c", "streaming_f"))]
    assert [(e["event"], e["log_level"], e["correlation_id"]) for e in ends] == [
        ("streaming_cancelled", "info", "c-7"),
        ("streaming_failed", "error", "c-7"),
    ]
