"""Every route but the compatible APIs: pages, the JSON API, the tools for agents, health and metrics."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from hub import accounts, styleguide
from hub.api import api
from hub.mcp import view as mcp
from hub.monitoring import health, metrics
from hub.preferences.views import settings
from hub.web import views

admin.autodiscover()
admin.site.login = accounts.sign_in  # type: ignore[method-assign,assignment]

urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.dashboard, name="dashboard"),
    path("find/", views.find, name="search"),
    path("system/", views.system, name="system"),
    path("system/speed/", views.speed, name="speed"),
    path("system/samples.json", views.samples, name="system_samples"),
    path("settings/", settings, name="settings"),
    path("first-account/", accounts.first, name="first_account"),
    path("styleguide/", styleguide.page, name="styleguide"),
    path("", include("hub.catalogue.urls")),
    path("", include("registry.web.urls")),
    path("", include("training.web.urls")),
    path("", include("inference.web.urls")),
    path("api/", api.urls),
    path("mcp", mcp.view, name="mcp"),
    path("health", health.view, name="health"),
    path("metrics", metrics.view, name="metrics"),
    path("admin/", admin.site.urls),
]
