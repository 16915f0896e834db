"""Every route: pages, the JSON API, the OpenAI-compatible API, health and metrics."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from hub import accounts
from hub.api import api
from hub.mcp import view as mcp
from hub.monitoring import health, metrics
from inference.v1.anthropic.api import api as anthropic_api
from inference.v1.ollama.api import api as ollama_api
from inference.v1.openai.api import api as openai_api
from inference.v1.rerank import router as rerank
from inference.v1.responses.api import router as responses

admin.autodiscover()
admin.site.login = accounts.sign_in  # type: ignore[method-assign,assignment]
openai_api.add_router("", responses)
openai_api.add_router("", rerank)

handler404 = "hub.api.page_not_found"
handler500 = "hub.api.server_error"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("hub.web.pages")),
    path("", include("hub.catalogue.urls")),
    path("", include("registry.web.urls")),
    path("", include("training.web.urls")),
    path("", include("inference.web.urls")),
    path("api/", api.urls),
    path("v1/", anthropic_api.urls),
    path("v1/", openai_api.urls),
    path("ollama/", ollama_api.urls),
    path("mcp", mcp.view, name="mcp"),
    path("health", health.view, name="health"),
    path("metrics", metrics.view, name="metrics"),
    path("admin/", admin.site.urls),
]
