"""The hub's tools for agents, used by the `mcp` package's own client over HTTP and over stdio."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import httpx2
import pytest
from django.core.management import call_command

from hub.config import Config
from hub.management.commands import run_mcp
from tests.running import ROOT, RunningHub

if TYPE_CHECKING:
    from mcp import Client

    from hub.mcp.server import Reach

READ = {
    "models", "model", "version", "base_models", "datasets", "dataset", "jobs", "job", "requests", "memory",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(running_hub: RunningHub) -> Iterator[dict[str, int]]:
    """A model and a data set."""
    examples = [{"prompt": f"say {number}", "completion": str(number)} for number in range(40)]
    with httpx.Client(base_url=running_hub.url, timeout=60) as client:
        bases = client.get("/api/bases").json()["items"]
        base = bases[0] if bases else client.post("/api/bases", json={"source": "starter"}).json()
        model = client.post("/api/models", json={"name": "mcp", "base_model": base["name"]})
        data = client.post("/api/datasets", json={"name": "mcp", "examples": examples})
        yield {"model_id": model.json()["id"], "dataset_id": data.json()["id"]}


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    """What the tool says, as JSON; its error as a text."""
    result = await client.call_tool(tool, arguments)
    said = "".join(part.text for part in result.content if part.type == "text")
    return said if result.is_error else json.loads(said)


async def test_every_tool_reads_but_train(running_hub: RunningHub) -> None:
    from mcp import Client

    async with Client(f"{running_hub.url}/mcp") as client:
        tools = (await client.list_tools()).tools
    reading = {tool.name for tool in tools if tool.annotations.read_only_hint}
    assert reading == READ
    assert {tool.name for tool in tools} - reading == {"train"}
    assert all(tool.description for tool in tools)


async def test_models_data_sets_and_memory_are_read(
    running_hub: RunningHub, made: dict[str, int]
) -> None:
    from mcp import Client

    async with Client(f"{running_hub.url}/mcp") as client:
        listed = await call(client, "models", q="mcp")
        assert [one["name"] for one in listed["items"]] == ["mcp"]
        assert (await call(client, "model", model_id=made["model_id"]))["name"] == "mcp"
        assert (await call(client, "dataset", dataset_id=made["dataset_id"]))["name"] == "mcp"
        assert (await call(client, "base_models"))["items"]
        assert (await call(client, "memory"))["budget"]["budget_bytes"] > 0
        assert "items" in await call(client, "requests", limit=1)
        assert "items" in await call(client, "jobs", status="failed")
        assert "exists" in await call(client, "model", model_id=10**6)
        assert "version number" in await call(client, "version", model_id=1, number="../../keys")


async def test_training_starts_only_as_it_was_confirmed(
    running_hub: RunningHub, made: dict[str, int]
) -> None:
    from mcp import Client

    asked: Any = {**made, "config": {"iters": 2, "warmup": 0}}
    async with Client(f"{running_hub.url}/mcp") as client:
        before = (await call(client, "jobs"))["items"]
        shown = await call(client, "train", **asked)
        assert shown["plan"]["model"]["name"] == "mcp"
        code = shown["confirmation"]
        other = {**asked, "config": {"iters": 3}}
        assert "another plan" in await call(client, "train", **other, confirmation=code)
        assert (await call(client, "jobs"))["items"] == before
        job = await call(client, "train", **asked, confirmation=code)
        assert (await call(client, "job", job_id=job["id"]))["config"]["iters"] == 2


async def test_a_keys_scope_holds(running_hub: RunningHub) -> None:
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    def key(scope: str) -> str:
        body = {"name": f"mcp-{scope}", "scope": scope}
        return str(httpx.post(f"{running_hub.url}/api/keys", json=body).json()["text"])

    url = f"{running_hub.url}/mcp"
    headers = {"Authorization": f"Bearer {key('inference')}"}
    refused = httpx.post(url, json={}, headers=headers)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "scope"
    manages = {"Authorization": f"Bearer {key('manage')}"}
    async with (
        httpx2.AsyncClient(headers=manages) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
        Client(url) as other,
    ):
        said = await asyncio.gather(*(call(one, "jobs", limit=1) for one in [client, other] * 4))
        assert all("items" in one for one in said)


def test_other_pages_and_hosts_are_kept_away(running_hub: RunningHub) -> None:
    url = f"{running_hub.url}/mcp"
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        assert httpx.post(url, json={}, headers=headers).status_code in (400, 403)
    assert httpx.get(url).status_code == 405


async def test_it_is_served_over_stdio(running_hub: RunningHub) -> None:
    """By a hub that other machines reach, too, and past the proxy that this one needs."""
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    environment = {
        **running_hub.environment,
        "HUB_PORT": str(running_hub.port),
        "HUB_HOST": "0.0.0.0",
        "HUB_ALLOWED_HOSTS": "hub.example",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "",
    }
    asked = StdioServerParameters(
        command=sys.executable,
        args=[str(ROOT / "manage.py"), "run_mcp"],
        env={**os.environ, **environment},
    )
    async with Client(stdio_client(asked)) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} >= READ
        assert "items" in await call(client, "base_models")


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("options", "url", "host", "trusts"),
    [
        ([], "http://127.0.0.1:8000", "localhost", False),
        (["--url", "http://hub.example"], "http://hub.example", "hub.example", True),
    ],
)
def test_a_key_reaches_the_hub_alone(
    options: list[str], url: str, host: str, trusts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hub.mcp import server

    reached: list[Reach] = []

    class Server:
        def __init__(self, reach: Reach) -> None:
            reached.append(reach)

        def run(self, transport: str) -> None: ...

    beyond = Config(host="0.0.0.0", port=8000, allowed_hosts="hub.example", mcp_key="k")
    monkeypatch.setattr(run_mcp, "config", beyond)
    monkeypatch.setattr(server, "make_server", Server)
    call_command("run_mcp", *options)
    client = reached[0]()
    request = client.build_request("GET", "/api/models")
    assert request.url == f"{url}/api/models"
    assert request.headers["Host"] == host
    assert request.headers["Authorization"] == "Bearer k"
    assert client.trust_env is trusts
