"""Every route. The compatible APIs come first and alone are imported here: they answer while the rest, a
third of all that the web process imports, is on its way (see `hub.web.later`)."""

from django.urls import URLPattern, URLResolver, path
from django.urls.resolvers import RoutePattern

from hub.web import later
from inference.v1.anthropic.api import api as anthropic_api
from inference.v1.ollama.api import api as ollama_api
from inference.v1.openai.api import api as openai_api
from inference.v1.rerank import router as rerank
from inference.v1.responses.api import router as responses

openai_api.add_router("", responses)
openai_api.add_router("", rerank)

handler404 = "hub.api.page_not_found"
handler500 = "hub.api.server_error"

urlpatterns: list[URLPattern | URLResolver] = [
    path("v1/", anthropic_api.urls),
    path("v1/", openai_api.urls),
    path("ollama/", ollama_api.urls),
    URLResolver(RoutePattern(""), later.ROUTES),  # as `include`, but imported when it is asked
]
