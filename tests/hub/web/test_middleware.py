"""Access rules: hosts, origins, bodies and tokens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import AsyncClient, Client
from django.urls import include, path

from hub import urls as hub_urls
from hub.api import page_not_found, server_error
from inference.models import ApiToken

TEXT = "text/plain"
handler404, handler500 = page_not_found, server_error


def echo(request: HttpRequest) -> HttpResponse:
    token = request.token  # type: ignore[attr-defined]
    return JsonResponse({"token": token and token.name})


echo.csrf_exempt = True  # type: ignore[attr-defined]  # as ninja's operations are


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            yield str(number).encode()

    return StreamingHttpResponse(pieces())


urlpatterns = [
    path("api/echo", echo),
    path("v1/echo", echo),
    path("v1/messages/echo", echo),
    path("api/inference/echo", echo),
    path("api/stream", stream),
    path("", include(hub_urls)),
]
pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db, pytest.mark.any_database]


@pytest.fixture
def beyond_loopback(settings: object) -> None:
    settings.IS_LOOPBACK = False  # type: ignore[attr-defined]
    settings.ALLOWED_HOSTS = ["testserver"]  # type: ignore[attr-defined]


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False, enforce_csrf_checks=True)


def post(client: Client, body: str = "{}", kind: str = "application/json", **headers: str) -> int:
    return client.post("/api/echo", body, content_type=kind, headers=headers).status_code


def bearer(scope: ApiToken.Scope) -> dict[str, str]:
    _, text = ApiToken.issue(f"for {scope}", scope)
    return {"Authorization": f"Bearer {text}"}


class TestOrigins:
    def test_json_without_an_origin_passes(self, client: Client) -> None:
        assert post(client) == 200

    def test_json_from_our_own_page_passes(self, client: Client) -> None:
        assert post(client, origin="http://testserver") == 200

    @pytest.mark.parametrize(
        "origin", ["http://evil.example", "null", "http://testserver:8001", "https://testserver"]
    )
    def test_json_from_another_origin_is_refused(self, client: Client, origin: str) -> None:
        assert post(client, origin=origin) == 403

    def test_a_cross_origin_text_body_is_refused(self, client: Client) -> None:
        assert post(client, kind=TEXT, origin="http://evil.example") == 403

    def test_a_text_body_is_refused_even_without_an_origin(self, client: Client) -> None:
        assert post(client, kind=TEXT) == 415

    def test_a_cross_site_fetch_without_origin_is_refused(self, client: Client) -> None:
        assert post(client, **{"Sec-Fetch-Site": "cross-site"}) == 403

    def test_a_form_upload_needs_a_token(self, client: Client) -> None:
        assert client.post("/api/echo", {"name": "x"}).status_code == 403

    def test_a_form_upload_with_an_api_token_passes(self, client: Client) -> None:
        headers = bearer(ApiToken.Scope.MANAGE)
        assert client.post("/api/echo", {"name": "x"}, headers=headers).status_code == 200

    def test_a_form_upload_with_a_csrf_token_passes(self, client: Client) -> None:
        secret = "a" * 32
        client.cookies["csrftoken"] = secret
        headers = {"X-CSRFToken": secret}
        assert client.post("/api/echo", {"name": "x"}, headers=headers).status_code == 200

    def test_a_refusal_on_v1_has_openai_form(self, client: Client) -> None:
        answer = client.post("/v1/echo", "x", content_type=TEXT)
        assert answer.json()["error"]["type"] == "invalid_request_error"

    def test_a_refusal_on_messages_has_anthropics_form(self, client: Client) -> None:
        answer = client.post("/v1/messages/echo", "x", content_type=TEXT).json()
        assert answer["type"] == "error"
        assert answer["error"]["type"] == "invalid_request_error"


class TestHosts:
    @pytest.mark.parametrize("url", ["/api/echo", "/static/ninja/swagger-ui.css", "/health"])
    def test_an_unknown_host_is_refused_everywhere(self, client: Client, url: str) -> None:
        assert client.get(url, headers={"Host": "evil.example"}).status_code == 400

    def test_prometheus_in_a_container_may_scrape(self, client: Client) -> None:
        host = {"Host": "host.docker.internal:8000"}
        assert client.get("/metrics", headers=host).status_code == 200
        assert client.get("/api/echo", headers=host).status_code == 400

    def test_a_name_that_begins_like_prometheus_host_is_refused(self, client: Client) -> None:
        host = {"Host": "host.docker.internal.evil.example"}
        assert client.get("/metrics", headers=host).status_code == 400


class TestTokens:
    def test_on_loopback_none_is_needed(self, client: Client) -> None:
        assert client.get("/api/echo").json() == {"token": None}

    def test_on_loopback_a_token_is_attached(self, client: Client) -> None:
        answer = client.get("/api/echo", headers=bearer(ApiToken.Scope.MANAGE))
        assert answer.json() == {"token": "for manage"}

    def test_on_loopback_any_key_of_an_openai_client_will_do(self, client: Client) -> None:
        headers = {"Authorization": "Bearer unused"}
        assert client.get("/v1/echo", headers=headers).json() == {"token": None}

    @pytest.mark.parametrize("url", ["/api/echo", "/v1/echo", "/metrics"])
    @pytest.mark.parametrize("text", ["", "Bearer wrong"])
    def test_beyond_it_a_valid_one_is_needed(
        self, client: Client, beyond_loopback: None, url: str, text: str
    ) -> None:
        answer = client.get(url, headers={"Authorization": text} if text else {})
        assert answer.status_code == 401
        assert answer["WWW-Authenticate"] == "Bearer"

    def test_beyond_it_a_scrape_goes_on_while_the_database_is_away(
        self, client: Client, beyond_loopback: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        headers, unknown = bearer(ApiToken.Scope.INFERENCE), bearer(ApiToken.Scope.MANAGE)
        assert client.get("/metrics", headers=headers).status_code == 200

        def away(*_: object) -> None:
            raise OperationalError("database is locked")

        monkeypatch.setattr(ApiToken, "authenticate", away)
        assert client.get("/metrics", headers=headers).status_code == 200
        client.raise_request_exception = False
        assert client.get("/metrics", headers=unknown).status_code == 503
        assert client.get("/v1/echo", headers=headers).status_code == 503

    def test_beyond_it_anthropics_header_carries_it(
        self, client: Client, beyond_loopback: None
    ) -> None:
        _, text = ApiToken.issue("app")
        url = "/v1/messages/echo"
        assert client.get(url, headers={"x-api-key": text}).json() == {"token": "app"}
        refused = client.get(url, headers={"x-api-key": "wrong"})
        assert refused.status_code == 401
        assert refused.json()["error"]["type"] == "authentication_error"

    def test_beyond_it_health_is_open(self, client: Client, beyond_loopback: None) -> None:
        assert client.get("/health").json()["live"] is True

    def test_beyond_it_a_page_leads_to_the_login(
        self, client: Client, beyond_loopback: None
    ) -> None:
        assert client.get("/models/")["Location"] == "/admin/login/?next=/models/"

    @pytest.mark.both_databases
    def test_beyond_it_an_administrators_session_passes(
        self, client: Client, beyond_loopback: None
    ) -> None:
        client.force_login(User.objects.create_superuser("ada", password="x"))
        assert client.get("/api/echo").status_code == 200

    def test_beyond_it_another_users_session_does_not(
        self, client: Client, beyond_loopback: None
    ) -> None:
        client.force_login(User.objects.create_user("bob", password="x"))
        assert client.get("/api/echo").status_code == 403

    @pytest.mark.both_databases
    def test_an_inference_token_generates_but_does_not_manage(
        self, client: Client, beyond_loopback: None
    ) -> None:
        headers = bearer(ApiToken.Scope.INFERENCE)
        assert client.get("/v1/echo", headers=headers).status_code == 200
        assert client.get("/api/inference/echo", headers=headers).status_code == 200
        assert client.get("/api/echo", headers=headers).status_code == 403

    @pytest.mark.both_databases
    def test_a_revoked_token_is_refused(self, client: Client, beyond_loopback: None) -> None:
        row, text = ApiToken.issue("old", ApiToken.Scope.MANAGE)
        row.revoke()
        answer = client.get("/api/echo", headers={"Authorization": f"Bearer {text}"})
        assert answer.status_code == 401


@pytest.mark.usefixtures("closed_connections")
class TestAsync:
    @pytest.mark.django_db(transaction=True)
    async def test_a_stream_passes_unbuffered(self) -> None:
        answer: Any = await AsyncClient().get("/api/stream")
        assert [piece async for piece in answer.streaming_content] == [b"0", b"1", b"2"]

    @pytest.mark.django_db(transaction=True)
    async def test_a_static_file_is_served(self) -> None:
        answer = await AsyncClient().get("/static/ninja/swagger-ui.css")
        assert answer.status_code == 200
        assert answer["Content-Type"].startswith("text/css")
        assert b".swagger-ui" in answer.content

    @pytest.mark.django_db(transaction=True)
    async def test_a_cross_origin_request_is_refused(self) -> None:
        answer = await AsyncClient().post(
            "/api/echo",
            json.dumps({}),
            content_type="application/json",
            headers={"origin": "http://evil.example"},
        )
        assert answer.status_code == 403
