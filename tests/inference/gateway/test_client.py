"""The web side of the engine's socket: lines as they come, however the kernel cuts them."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from inference.gateway import client
from inference.gateway.client import Connection
from inference.protocol import Chunk, encode_event


class Transport:
    """What was asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pause_reading(self) -> None:
        self.asked.append("pause")

    def resume_reading(self) -> None:
        self.asked.append("resume")

    def abort(self) -> None:
        self.asked.append("abort")


def connection() -> tuple[Connection, Transport]:
    made, transport = Connection(), Transport()
    made.connection_made(transport)  # type: ignore[arg-type]
    return made, transport


async def test_lines_are_whole_wherever_they_were_cut() -> None:
    made, _ = connection()
    sent = b"".join(encode_event(Chunk(text)) for text in ("one", "two\n", "日本"))
    for at in range(0, len(sent), 7):
        made.data_received(sent[at : at + 7])
    assert [await made.line() for _ in range(3)] == sent.split(b"\n")[:3]
    assert made.next() == b""


async def test_who_waits_gets_the_line_and_then_the_end() -> None:
    made, _ = connection()
    waiting = asyncio.create_task(made.line())
    await asyncio.sleep(0)
    made.data_received(b"{")
    made.data_received(b"}\n")
    assert await waiting == b"{}"
    waiting = asyncio.create_task(made.line())
    await asyncio.sleep(0)
    made.connection_lost(None)
    assert await waiting == b""


async def test_a_text_is_taken_while_the_next_event_is_awaited_and_only_then() -> None:
    made, _ = connection()
    taken: list[str] = []
    willing = True

    def take(chunk: Chunk) -> bool:
        if willing:
            taken.append(chunk.text)
        return willing

    def come(*texts: str, then: bytes = b"") -> None:
        made.data_received(b"".join(encode_event(Chunk(text)) for text in texts) + then)

    made.take = take
    come("zero")
    assert await made.line() == b'"zero"'
    waiting = asyncio.create_task(made.line())
    await asyncio.sleep(0)
    come("one", "two", then=b"{}\n" + encode_event(Chunk("three")))
    assert taken == ["one", "two"]
    assert (await waiting, made.next()) == (b"{}", b'"three"')
    waiting = asyncio.create_task(made.line())
    await asyncio.sleep(0)
    willing = False
    come("four")
    willing = True
    come("five")
    assert (await waiting, made.next()) == (b'"four"', b'"five"')
    assert taken == ["one", "two"]


async def test_what_nobody_takes_is_left_with_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_HELD", 10)
    made, transport = connection()
    for _ in range(3):
        made.data_received(b"abcd\n")
    assert transport.asked == ["pause"]
    await made.line()
    assert transport.asked == ["pause", "resume"]


async def test_a_line_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MOST_HELD", 10)
    made, transport = connection()
    made.data_received(b"abcdefghijkl")
    assert transport.asked == ["abort"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")
async def test_a_full_queue_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "engine.sock")
    monkeypatch.setattr(client, "_socket_of", lambda root: path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(0)
        first = await client._connect()
        second = asyncio.create_task(client._connect())
        await asyncio.sleep(0)
        assert not second.done()
        accepted: list[Any] = [server.accept()[0]]
        (await second).close()
        accepted.append(server.accept()[0])
        first.close()
        for one in accepted:
            one.close()
