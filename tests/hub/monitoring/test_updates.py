"""A newer version is announced where that is switched on, and the package index is asked no more than once a day."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from pydantic import ValidationError

from hub.config import config
from hub.monitoring import updates
from tests.running import wait_until

pytestmark = pytest.mark.any_database


class Index(ThreadingHTTPServer):
    """Answers as a package index does, and holds each question until `open` is set."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked, self.open, self.body = 0, threading.Event(), b"{}"

    def has(self, version: str) -> None:
        self.body = json.dumps({"info": {"version": version}}).encode()


class Answer(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        self.server.asked += 1
        self.server.open.wait(30)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    monkeypatch.setattr(updates, "release", lambda: "0.2.0")
    with Index() as index:
        asked = {"update_url": f"http://127.0.0.1:{index.server_port}/"}
        monkeypatch.setattr(updates, "config", config.model_copy(update=asked))
        threading.Thread(target=index.serve_forever, daemon=True).start()
        yield index
        index.open.set()
        index.shutdown()
        wait_until(lambda: not updates._looking.locked())


def look() -> None:
    """To its end."""
    updates.look()
    wait_until(lambda: not updates._looking.locked())


@pytest.mark.django_db
def test_a_newer_version_is_on_the_dashboard_with_its_command(index: Index, client: Client) -> None:
    index.has("0.10.0")
    began = time.monotonic()
    for _ in range(3):
        updates.look()
    assert time.monotonic() - began < 1, "nobody waits for the answer"
    assert updates.newest() is None
    index.open.set()
    wait_until(lambda: updates.newest() is not None)
    look()
    assert index.asked == 1, "the next question is due tomorrow"
    page = client.get("/").content.decode()
    assert (
        "Version 0.10.0 of the hub is available: <code>git pull &amp;&amp; uv sync</code>" in page
    )


def test_it_asks_again_after_a_day_also_when_there_was_no_answer(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.open.set()
    for body in (b"<html>", b'{"info": []}', b'{"info": {"version": "0.3.0rc1"}}', b"[]"):
        index.body = body
        look()
        assert updates.newest() is None
        monkeypatch.setattr(updates, "_looked_at", lambda: 0.0)
    index.has("0.2.1")
    look()
    assert updates.newest() == updates.Update("0.2.1", updates.command())
    index.body = b"<html>"
    look()
    assert updates.newest() is not None, "what was known stays"
    assert index.asked == 6


def test_a_clock_that_was_wrong_does_not_silence_it(index: Index, storage: Path) -> None:
    (storage / "run/update.json").write_text(json.dumps({"looked_at": time.time() + 1e8}))
    index.open.set()
    look()
    assert index.asked == 1


def test_off_nobody_is_asked_and_nothing_said(
    index: Index, monkeypatch: pytest.MonkeyPatch, storage: Path
) -> None:
    assert not config.update_url, "it is off by default"
    with pytest.raises(ValidationError, match="begins with https://"):
        type(config)(update_url="file:///etc/hosts")
    monkeypatch.setattr(updates, "config", config)
    (storage / "run/update.json").write_text(json.dumps({"version": "9.9.9"}))
    look()
    assert (index.asked, updates.newest()) == (0, None)


@pytest.mark.parametrize(
    ("prefix", "command"),
    [
        ("/opt/homebrew/Cellar/mlx-model-hub/0.2.0/libexec/venv", "brew upgrade mlx-model-hub"),
        ("/home/a/.local/share/uv/tools/mlx-model-hub", "uv tool upgrade mlx-model-hub"),
        ("/home/a/venv", f"{sys.executable} -m pip install --upgrade mlx-model-hub"),
    ],
)
def test_the_command_is_that_of_how_it_was_installed(
    prefix: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "IS_INSTALLED", True)
    monkeypatch.setattr(sys, "prefix", prefix)
    assert updates.command() == command


@pytest.mark.parametrize("version", ["", "0.2.0", "0.1.9", "0.3.0.dev1", "1", "newest", None])
def test_only_a_newer_release_is_one(version: Any, index: Index, storage: Path) -> None:
    (storage / "run/update.json").write_text(json.dumps({"version": version}))
    assert updates.newest() is None
