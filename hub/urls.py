"""Every route: pages, the JSON API, the OpenAI-compatible API, health and metrics."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from hub import health, metrics
from hub.api import api
from inference.anthropic import api as anthropic_api
from inference.openai import api as openai_api

handler404 = "hub.api.page_not_found"
handler500 = "hub.api.server_error"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("hub.pages")),
    path("", include("registry.urls")),
    path("", include("training.urls")),
    path("", include("inference.urls")),
    path("api/", api.urls),
    path("v1/", anthropic_api.urls),
    path("v1/", openai_api.urls),
    path("health", health.view, name="health"),
    path("metrics", metrics.view, name="metrics"),
    path("admin/", admin.site.urls),
]
