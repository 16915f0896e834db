"""What the documents promise to list is listed: addresses, commands, metrics and rooms.

Settings are compared with `.env.example` in `test_config`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from django.core.management import get_commands
from django.urls import URLPattern, URLResolver, get_resolver
from ninja import NinjaAPI
from pydantic import BaseModel

from hub.api import api
from hub.monitoring import metrics
from inference.v1.openai.api import api as openai_api
from tests.running import ROOT

pytestmark = pytest.mark.any_database

APPS = ("hub", "training", "inference", "registry", "backends")
NO_ROOMS = {"migrations", "commands", "__pycache__", "starter"}
PARTS_OF_WEB = {"api", "views", "schemas"}  # every `web` room has them


def document(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def quoted(text: str) -> set[str]:
    """What stands between backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))


def addresses(resolver: URLResolver, before: str = "/") -> Iterator[str]:
    """Every address of the hub's own, with ID, VERSION and other capitals for what varies."""
    for entry in resolver.url_patterns:
        address = before + str(entry.pattern)
        if isinstance(entry, URLPattern):
            yield plain(address)
        elif str(entry.pattern) != "admin/":
            yield from addresses(entry, address)


def plain(address: str) -> str:
    address = re.sub(r"\(\?P<(\w+)>[^()]*\)", r"<\1>", address.replace("\\", ""))
    address = address.replace("^", "").replace("$", "")
    address = re.sub(r"<(?:int|path|str):(\w+)>", r"<\1>", address)
    return re.sub(r"<(\w+)>", lambda m: "ID" if m[1] in ("pk", "rule") else m[1].upper(), address)


def rooms() -> Iterator[str]:
    for app in APPS:
        for init in (ROOT / app).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            if not NO_ROOMS & set(parts) and not ("web" in parts and PARTS_OF_WEB & set(parts)):
                yield "/".join(parts)


def test_every_address_is_documented() -> None:
    found = {a for a in addresses(get_resolver()) if not a.startswith("/api/")}
    assert found - quoted(document("reference.md")) == set()


def test_every_documented_address_exists() -> None:
    promised = {text for text in quoted(document("reference.md")) if text.startswith("/")}
    elsewhere = {"/admin/", "/ws/inference", "/v1", "/api/"}
    exists = set(addresses(get_resolver()))
    assert promised - exists - elsewhere == set()


def test_every_operation_of_the_json_api_says_what_it_does() -> None:
    for path, operations in api.get_openapi_schema()["paths"].items():
        for method, operation in operations.items():
            assert operation.get("description") or operation.get("summary"), f"{method} {path}"


@pytest.mark.parametrize("described", [api, openai_api], ids=["/api", "/v1"])
def test_every_operation_says_how_it_fails(described: NinjaAPI) -> None:
    document = described.get_openapi_schema()
    problem = document["components"]["schemas"]["Problem"]
    assert {"code", "message"} <= problem["properties"].keys()
    for operations in document["paths"].values():
        for operation in operations.values():
            (answer,) = operation["responses"]["default"]["content"].values()
            name = answer["schema"]["$ref"].rpartition("/")[2]
            assert set(document["components"]["schemas"][name]["required"]) == {"error"}


def shapes(annotation: Any, known: set[type[BaseModel]]) -> None:
    """Add every class that this type is made of."""
    is_shape = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    if is_shape and annotation not in known:
        known.add(annotation)
        for field in annotation.model_fields.values():
            shapes(field.annotation, known)
    for part in get_args(annotation):
        shapes(part, known)


@pytest.mark.parametrize("described", [api, openai_api], ids=["/api", "/v1"])
def test_no_two_classes_have_one_name_in_a_document(described: NinjaAPI) -> None:
    """The document would have one of them, and describe the other one's answers by it."""
    known: set[type[BaseModel]] = set()
    described.get_openapi_schema()
    for _, router in described._routers:
        for view in router.path_operations.values():
            for operation in view.operations:
                for model in (*operation.models, *operation.response_models.values()):
                    shapes(model, known)
    ours = [model for model in known if model.__module__.startswith(APPS)]
    names = Counter(model.__name__ for model in ours)
    assert len(ours) > 10
    assert [name for name, count in names.items() if count > 1] == []


def test_every_command_is_documented() -> None:
    ours = {name for name, app in get_commands().items() if app in APPS}
    assert ours - quoted(document("reference.md")) == set()


@pytest.mark.django_db
def test_every_metric_is_documented() -> None:
    text = document("operations.md")
    names = {family.name for family in metrics.HubCollector().collect()}
    source = (
        Path(metrics.__file__).read_text() + (ROOT / "inference/gateway/metrics.py").read_text()
    )
    names |= {
        name if name.startswith("hub_") else f"hub_{name}"
        for name in re.findall(
            r"(?:gauge|Counter|Histogram|Gauge\w*|Counter\w*)\(\s*\"([a-z_]+)\"", source
        )
    }
    assert names, "no metric was found"
    undocumented = {name for name in names if name.removesuffix("_total") not in text}
    assert undocumented == set()


def test_every_room_is_on_the_map() -> None:
    named = quoted(document("architecture.md"))
    assert {room for room in rooms() if "/" in room} - named == set()


def test_every_room_says_what_lives_there() -> None:
    silent = [room for room in rooms() if not (ROOT / room / "__init__.py").read_text().strip()]
    assert [room for room in silent if not room.endswith("management") and "/" in room] == []


def test_the_map_names_only_what_exists() -> None:
    for text in quoted(document("architecture.md")):
        if re.fullmatch(r"(?:tests|registry|training|inference|backends|hub)/[\w/.]+", text):
            assert (ROOT / text).exists(), text


def test_no_room_is_crowded() -> None:
    """A dozen modules, Django's own folders aside."""
    for room in rooms():
        modules = [path for path in (ROOT / room).glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= 13, f"{room} holds {len(modules)} modules"
