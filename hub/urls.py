"""Every route: pages, the JSON API, the OpenAI-compatible API, health and metrics."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.contrib import admin
from django.urls import include, path
from django.urls.resolvers import URLPattern, URLResolver

from hub import health, metrics
from hub.api import api

handler404 = "hub.api.page_not_found"
handler500 = "hub.api.server_error"


def _landed(name: str) -> Any:
    try:
        return import_module(name) if find_spec(name) else None
    except (ImportError, AttributeError):
        return None


for _prefix, _name in (
    ("", "registry.api"),
    ("/training", "training.api"),
    ("", "inference.api"),
):
    if _module := _landed(_name):
        api.add_router(_prefix, _module.router)

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("api/", api.urls),
    path("health", health.view, name="health"),
    path("metrics", metrics.view, name="metrics"),
]
if _module := _landed("inference.openai"):
    urlpatterns.append(path("v1/", _module.api.urls))
for _name in ("hub.pages", "registry.urls", "training.urls", "inference.urls"):
    if _landed(_name):
        urlpatterns.append(path("", include(_name)))
