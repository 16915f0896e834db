"""Pages of other origins: none by default, those that are named, or any with a key."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.test import AsyncClient, Client

from hub.config import ROOT, Config
from inference.models import ApiToken

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
PAGE = "http://localhost:3000"
OTHER = "https://evil.example"
ASKED = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
}


@pytest.fixture
def named(settings: Any) -> None:
    settings.CORS_ORIGINS = [PAGE, "tauri://localhost"]


@pytest.fixture
def anyone(settings: Any) -> None:
    settings.CORS_ORIGINS = ["*"]


def key() -> dict[str, str]:
    _, text = ApiToken.issue("page", ApiToken.Scope.ADMIN)
    return {"Authorization": f"Bearer {text}"}


def preflight(client: Client, origin: str, path: str = "/v1/chat/completions") -> Any:
    return client.options(path, headers={"Origin": origin, **ASKED})


def post(client: Client, origin: str, **headers: str) -> Any:
    sent: Any = {"Origin": origin, "Sec-Fetch-Site": "cross-site", **headers}
    return client.post("/v1/chat/completions", "{}", "application/json", headers=sent)


def test_by_default_no_page_is_let_in(client: Client) -> None:
    assert "Access-Control-Allow-Origin" not in preflight(client, PAGE)
    refused = post(client, PAGE)
    assert refused.status_code == 403
    assert "HUB_CORS_ORIGINS" in refused.json()["error"]["message"]


@pytest.mark.parametrize("origin", [PAGE, "tauri://localhost"])
def test_a_named_page_is_let_in(client: Client, named: None, origin: str) -> None:
    asked = preflight(client, origin)
    assert asked.status_code == 204
    assert asked["Access-Control-Allow-Origin"] == origin
    assert "x-stainless-os" in asked["Access-Control-Allow-Headers"]
    assert "POST" in asked["Access-Control-Allow-Methods"]
    answered = post(client, origin)
    assert answered.status_code == 400  # an empty body, and not the origin, is refused
    assert answered["Access-Control-Allow-Origin"] == origin
    assert "x-request-id" in answered["Access-Control-Expose-Headers"]
    assert "Origin" in answered["Vary"]


@pytest.mark.parametrize("path", ["/v1/models", "/api/models", "/ollama/api/tags", "/mcp"])
def test_what_a_named_page_may_use_is_documented(client: Client, named: None, path: str) -> None:
    assert preflight(client, PAGE, path)["Access-Control-Allow-Origin"] == PAGE
    assert "Access-Control-Allow-Origin" not in preflight(client, OTHER, path)
    root = f"/{path.split('/')[1]}"
    example = (ROOT / ".env.example").read_text().partition("# HUB_CORS_ORIGINS=")[0]
    said = example[example.rindex("# Comma-separated origins") :]
    page = (ROOT / "docs" / "operations.md").read_text().partition("    HUB_CORS_ORIGINS=")[0]
    for text in (said, page[page.rindex("A page in a browser") :], _described()):
        assert re.search(rf"{root}\b", text)


def _described() -> str:
    return str(Config.model_fields["cors_origins"].description)


def test_a_page_that_is_not_named_is_not(client: Client, named: None) -> None:
    assert "Access-Control-Allow-Origin" not in preflight(client, OTHER)
    assert post(client, OTHER).status_code == 403
    read = client.get("/api/models", headers={"Origin": OTHER})
    assert "Access-Control-Allow-Origin" not in read


def test_the_hubs_pages_are_nobodys(client: Client, named: None) -> None:
    assert "Access-Control-Allow-Origin" not in client.get("/models/", headers={"Origin": PAGE})
    assert client.post("/models/new/", headers={"Origin": PAGE}).status_code == 403


@pytest.mark.both_databases
def test_any_page_needs_a_key_on_this_machine_too(client: Client, anyone: None) -> None:
    assert preflight(client, OTHER).status_code == 204
    assert post(client, OTHER).status_code == 401
    assert post(client, OTHER, Authorization="Bearer any").status_code == 401
    assert client.get("/api/requests", headers={"Origin": OTHER}).status_code == 401
    assert post(client, OTHER, **key()).status_code == 400


def test_programs_and_own_pages_go_on_without_a_key(client: Client, anyone: None) -> None:
    assert client.get("/v1/models").status_code == 200
    assert client.get("/v1/models", headers={"Origin": "http://testserver"}).status_code == 200


def test_a_page_learns_why_it_is_refused(client: Client, anyone: None) -> None:
    assert post(client, OTHER)["Access-Control-Allow-Origin"] == OTHER


def test_a_foreign_host_is_refused_before(client: Client, named: None) -> None:
    """A page that a rebound name made one with the hub."""
    headers = {"Origin": PAGE, "Host": "evil.example:8000"}
    assert client.get("/v1/models", headers=headers).status_code == 400


@pytest.mark.usefixtures("closed_connections")
@pytest.mark.django_db(transaction=True)
async def test_on_the_event_loop(named: None) -> None:
    answer = await AsyncClient().post(
        "/v1/chat/completions",
        json.dumps({}),
        content_type="application/json",
        headers={"Origin": PAGE},
    )
    assert answer["Access-Control-Allow-Origin"] == PAGE


@pytest.mark.parametrize(
    "origin", ["null", "http://a.example/path", "a.example", "http://*.a.example"]
)
def test_what_is_no_origin_stops_the_start(origin: str) -> None:
    with pytest.raises(ValueError, match=r"null|origin"):
        Config(cors_origins=origin)


def test_origins_are_read_from_one_line() -> None:
    assert Config(cors_origins="*").cors_origins == ["*"]
    read = Config(cors_origins=f"{PAGE}, app://obsidian.md")
    assert read.cors_origins == [PAGE, "app://obsidian.md"]
