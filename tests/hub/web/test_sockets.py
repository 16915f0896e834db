"""The WebSocket's handshake: host, origin, token."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import User
from django.test import Client

from hub.web.ollama import own_port
from hub.web.sockets import SocketGate
from inference.models import ApiToken


async def greeting(scope: object, receive: object, send: object) -> None:
    await receive()  # type: ignore[operator]
    await send({"type": "websocket.accept"})  # type: ignore[operator]


async def enters(**headers: str) -> bool:
    pairs = [
        (name.replace("_", "-").encode(), value.encode())
        for name, value in {"host": "testserver", **headers}.items()
    ]
    scope = {"type": "websocket", "path": "/ws/inference", "headers": pairs}
    socket = ApplicationCommunicator(SocketGate(greeting), scope)
    await socket.send_input({"type": "websocket.connect"})
    answer = await socket.receive_output(timeout=5)
    await socket.wait()
    return bool(answer["type"] == "websocket.accept")


@pytest.fixture(autouse=True)
def hosts(settings: object) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]  # type: ignore[attr-defined]


@pytest.fixture
def beyond_loopback(settings: object) -> None:
    settings.IS_LOOPBACK = False  # type: ignore[attr-defined]


async def test_our_own_page_is_accepted() -> None:
    assert await enters(origin="http://testserver")


async def test_a_program_without_an_origin_is_accepted() -> None:
    assert await enters()


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://testserver:3000"])
async def test_another_origin_is_denied(origin: str) -> None:
    assert not await enters(origin=origin)


async def test_an_unknown_host_is_denied() -> None:
    assert not await enters(host="evil.example", origin="http://evil.example")


@pytest.mark.parametrize(("port", "accepted"), [(8000, True), (11434, False)])
async def test_ollamas_port_has_none(port: int, accepted: bool) -> None:
    scope = {"type": "websocket", "path": "/ws/inference", "server": ("127.0.0.1", port)}
    socket = ApplicationCommunicator(own_port(greeting, 11434), scope)
    await socket.send_input({"type": "websocket.connect"})
    answer = await socket.receive_output(timeout=5)
    await socket.wait()
    assert (answer["type"] == "websocket.accept") is accepted


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("closed_connections")
class TestBeyondLoopback:
    async def test_without_a_token_access_is_denied(self, beyond_loopback: None) -> None:
        assert not await enters(origin="http://testserver")

    async def test_a_token_is_accepted(self, beyond_loopback: None) -> None:
        _, text = await self.issue()
        assert await enters(authorization=f"Bearer {text}")
        assert not await enters(authorization="Bearer wrong")

    async def test_an_administrators_session_is_accepted(self, beyond_loopback: None) -> None:
        client = Client()
        user = await User.objects.acreate(username="ada", is_staff=True, is_superuser=True)
        await client.aforce_login(user)
        cookie = client.cookies["sessionid"].value
        assert await enters(origin="http://testserver", cookie=f"sessionid={cookie}")

    async def issue(self) -> tuple[ApiToken, str]:
        return await sync_to_async(ApiToken.issue)("socket")
