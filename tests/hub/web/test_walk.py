"""Every address of the URL configuration, walked as a stranger would: what is open is frozen here.

A new route that is open to more than it should be, or one that forgets the rules, fails this file.
"""

from __future__ import annotations

from functools import cache

import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import get_resolver, re_path

from hub.web import access
from hub.web.middleware import HostMiddleware, SameOriginMiddleware
from hub.web.sockets import _is_ours
from inference.models import ApiToken
from tests.hub.test_documented import addresses
from tests.hub.web.test_permissions import example

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

# What anybody may reach beyond loopback. The admin asks for its own login.
OPEN_TO_ALL = {"/health"}
# What a key of the scope `inference` reaches, by method: everything else is refused to it.
INFERENCE_READS = {
    "/api/inference",
    "/api/inference/embeddings",
    "/api/inference/engine",
    "/api/inference/memory",
    "/api/inference/models",
    "/api/inference/models/NAME",
    "/api/inference/stream",
    "/health",
    "/metrics",
    "/ollama/",
    "/ollama/api/ACTION",
    "/ollama/api/chat",
    "/ollama/api/embed",
    "/ollama/api/embeddings",
    "/ollama/api/generate",
    "/ollama/api/ps",
    "/ollama/api/show",
    "/ollama/api/tags",
    "/ollama/api/version",
    "/v1/",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/docs",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/models",
    "/v1/models/NAME",
    "/v1/openapi.json",
    "/v1/rerank",
    "/v1/responses",
    "/v1/v2/rerank",
}
INFERENCE_WRITES = INFERENCE_READS - {"/api/inference/models", "/api/inference/models/NAME"}
# What a key of the scope `manage` does not reach.
KEYS = {
    "/api/keys",
    "/api/keys/KEY_ID",
    "/api/settings",
    "/first-account/",
    "/settings/",
    "/system/keys/",
    "/system/keys/ID/limits/",
    "/system/keys/ID/revoke/",
    "/system/keys/selected/ACTION/",
}

HOSTS = (
    ("127.0.0.1", True), ("127.0.0.1:8000", True), ("localhost", True), ("LOCALHOST:1", True),
    ("[::1]", True), ("[::1]:8000", True), ("localhost.", True),
    ("evil.example", False), ("evil.example:8000", False), ("127.0.0.1.evil.example", False),
    ("localhost.evil.example", False), ("evil-localhost", False), ("127.0.0.1@evil.example", False),
    ("evil.example@127.0.0.1", False), ("127.1", False), ("0.0.0.0", False), ("2130706433", False),
    ("0x7f000001", False), ("127.0.0.2", False), ("[::ffff:127.0.0.1]", False), ("[::]", False),
    ("", False), (" ", False), ("localhost localhost", False), ("localhost/", False),
    ("localhost\\evil.example", False), ("localhost#", False), ("lоcalhost", False),
    ("host.docker.internal", False), ("hub.local", False), ("10.0.0.1", False),
)  # fmt: skip


@cache
def every_address() -> list[str]:
    return sorted(set(addresses(get_resolver())))


def ask(address: str, method: str, token: str = "") -> HttpRequest:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = RequestFactory().generic(method, example(address), headers=headers)
    request.user = AnonymousUser()
    return request


@pytest.fixture
def beyond_loopback(settings: object) -> None:
    settings.IS_LOOPBACK = False  # type: ignore[attr-defined]
    settings.ALLOWED_HOSTS = ["testserver"]  # type: ignore[attr-defined]


def open_to(token: str, methods: tuple[str, ...]) -> set[str]:
    return {
        address
        for address in every_address()
        if any(access.check(ask(address, method, token)) is None for method in methods)
    }


@pytest.mark.django_db
@pytest.mark.slow
def test_what_is_open_to_anybody(beyond_loopback: None) -> None:
    assert open_to("", METHODS) == OPEN_TO_ALL


@pytest.mark.django_db
@pytest.mark.slow
def test_what_is_open_to_each_scope(beyond_loopback: None) -> None:
    text = {scope: ApiToken.issue(scope.value, scope)[1] for scope in ApiToken.Scope}
    everything = set(every_address())
    assert open_to(text[ApiToken.Scope.INFERENCE], ("GET",)) == INFERENCE_READS
    assert open_to(text[ApiToken.Scope.INFERENCE], METHODS[1:]) == INFERENCE_WRITES
    assert open_to(text[ApiToken.Scope.MANAGE], METHODS) == everything - KEYS
    assert open_to(text[ApiToken.Scope.ADMIN], METHODS) == everything
    assert open_to("hub-made-up", METHODS) == OPEN_TO_ALL, "a wrong key opens nothing more"


@pytest.mark.parametrize(("host", "known"), HOSTS)
def test_every_address_and_the_socket_check_the_host(host: str, known: bool) -> None:
    gate = HostMiddleware(lambda request: HttpResponse())
    for address in every_address():
        request = RequestFactory().get(example(address), headers={"host": host})
        refused = gate.answer(request)
        scrape = address == "/metrics" and host == "host.docker.internal"
        assert (refused is None) == (known or scrape), address
    assert _is_ours({"host": host}) == known


KINDS = ("application/json", "text/plain", "application/x-www-form-urlencoded", "")
ORIGINS = ("none", "http://testserver", "http://evil.example", "null", "https://testserver")


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS[1:])
def test_no_page_of_another_origin_changes_anything(method: str, kind: str, origin: str) -> None:
    gate = SameOriginMiddleware(lambda request: HttpResponse())
    foreign = origin not in ("none", "http://testserver")
    for address in every_address():
        headers = {} if origin == "none" else {"origin": origin}
        request = RequestFactory().generic(
            method, example(address), b"{}", content_type=kind, headers=headers
        )
        refused = gate.answer(request)
        api = address.startswith(("/api/", "/v1/"))
        expected = 403 if foreign else 415 if api and kind != "application/json" else None
        assert (refused.status_code if refused else None) == expected, address


def reached(request: HttpRequest) -> HttpResponse:
    return HttpResponse("reached")


reached.csrf_exempt = True  # type: ignore[attr-defined]  # as ninja's operations are
urlpatterns = [re_path("", reached)]


@pytest.mark.django_db
@pytest.mark.urls(__name__)
def test_the_rules_are_installed_in_front_of_every_view(beyond_loopback: None) -> None:
    client = Client()
    evil = {"origin": "http://evil.example"}
    key = {"Authorization": f"Bearer {ApiToken.issue('k', ApiToken.Scope.ADMIN)[1]}"}
    assert client.get("/api/models").status_code == 401
    assert client.get("/api/models", headers=key).content == b"reached"
    assert client.get("/api/models", headers={**key, "host": "evil.example"}).status_code == 400
    assert client.post("/api/models", "{}", "application/json", headers=key).content == b"reached"
    answer = client.post("/api/models", "{}", "application/json", headers={**key, **evil})
    assert answer.status_code == 403
    assert client.post("/api/models", "{}", "text/plain", headers=key).status_code == 415
