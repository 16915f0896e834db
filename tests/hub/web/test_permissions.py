"""Django's permissions decide what a signed-in user may do, on every path alike."""

from __future__ import annotations

import re

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import get_resolver

from hub.web.permissions import _FOR_ALL, needed
from tests.hub.test_documented import addresses

OPEN = {"/health"}  # answers before anybody is asked who they are
KEYS_ALONE = {"/mcp"}  # its tools send a key on, and no session
SUPERUSERS = {"/settings/", "/api/settings", "/first-account/", "/styleguide/"}  # of no table


@pytest.fixture(autouse=True)
def beyond_loopback(settings: object) -> None:
    settings.IS_LOOPBACK = False  # type: ignore[attr-defined]
    settings.ALLOWED_HOSTS = ["testserver"]  # type: ignore[attr-defined]


def example(address: str) -> str:
    """An address with a value for each part that varies."""
    return re.sub(r"\b(VERSION)\b", "1.0.0", re.sub(r"\b[A-Z][A-Z_]*ID\b|\bID\b", "1", address))


@pytest.mark.django_db
def test_every_address_belongs_to_a_table_whose_permissions_exist() -> None:
    known = {
        f"{model._meta.app_label}.{action}_{model._meta.model_name}"
        for model in apps.get_models()
        for action in ("view", "add", "change", "delete")
    }
    for address in sorted(set(addresses(get_resolver()))):
        path = example(address)
        if path in OPEN | _FOR_ALL | KEYS_ALONE or path == "/v1/":
            continue
        if path in SUPERUSERS:
            assert needed("GET", path) is None
            continue
        for method in ("GET", "POST", "DELETE"):
            assert needed(method, path) in known, f"{method} {path}"


@pytest.mark.parametrize(
    ("method", "path", "permission"),
    [
        ("GET", "/api/keys", "inference.view_apitoken"),
        ("POST", "/api/keys", "inference.add_apitoken"),
        ("POST", "/system/keys/", "inference.add_apitoken"),
        ("PATCH", "/api/keys/3", "inference.change_apitoken"),
        ("DELETE", "/api/keys/3", "inference.delete_apitoken"),
        ("POST", "/system/keys/3/revoke/", "inference.delete_apitoken"),
        ("POST", "/api/models", "registry.add_model"),
        ("POST", "/models/1/remove/", "registry.delete_model"),
        ("POST", "/models/1/alias/", "registry.change_alias"),
        ("PUT", "/api/models/1/aliases/production", "registry.change_alias"),
        ("POST", "/models/1/1.0.0/archive/", "registry.change_modelversion"),
        ("POST", "/models/1/1.0.0/reproduce/", "training.add_trainingjob"),
        ("POST", "/api/datasets", "registry.add_dataset"),
        ("POST", "/training/new/", "training.add_trainingjob"),
        ("POST", "/training/1/cancel/", "training.change_trainingjob"),
        ("POST", "/v1/chat/completions", "inference.add_inferencerequest"),
        ("GET", "/v1/models", "inference.view_inferencerequest"),
        ("POST", "/api/inference/models", "registry.change_basemodel"),
        ("GET", "/", "hub.view_systemsample"),
        ("POST", "/mcp", None),
        ("GET", "/somewhere/", None),
    ],
)
def test_the_rule(method: str, path: str, permission: str | None) -> None:
    assert needed(method, path) == permission


@pytest.mark.django_db
def test_staff_without_permissions_make_no_key() -> None:
    client = Client()
    user = User.objects.create_user("eve", password="x", is_staff=True)
    client.force_login(user)
    key = {"name": "mine", "scope": "admin"}
    answer = client.post("/api/keys", key, content_type="application/json")
    assert answer.status_code == 403
    assert "inference.add_apitoken" in answer.json()["error"]["message"]
    assert client.post("/system/keys/", key).status_code == 403
    assert client.get("/models/").status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_model"))
    client.force_login(User.objects.get(pk=user.pk))
    assert client.get("/models/").status_code == 200
    assert client.post("/models/new/", {}).status_code == 403


@pytest.mark.django_db
def test_a_key_that_may_do_more_than_its_maker_needs_a_superuser() -> None:
    client = Client()
    user = User.objects.create_user("kim", password="x", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="add_apitoken"))
    client.force_login(user)
    kind = "application/json"
    for scope, status in (("inference", 201), ("manage", 403), ("admin", 403)):
        answer = client.post("/api/keys", {"name": scope, "scope": scope}, content_type=kind)
        assert answer.status_code == status, answer.content
        page = client.post("/system/keys/", {"name": f"page {scope}", "scope": scope})
        assert (page.status_code == 200) == (status == 201)
    client.force_login(User.objects.create_superuser("root"))
    assert client.post("/api/keys", {"name": "r", "scope": "admin"}, kind).status_code == 201
