"""Error responses: JSON for programs, a plain sentence for browsers."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import loader

from inference.protocol import wasted
from inference.v1.anthropic.bodies import error as anthropic_error
from inference.v1.ollama.bodies import error as ollama_error
from inference.v1.openai.bodies import error as openai_error
from registry.errors import HubError, Unavailable


def path_of(request: HttpRequest) -> str:
    """The path with one slash at its beginning: `//v1/models` was meant for the API, too."""
    return "/" + request.path.lstrip("/")


def is_api(request: HttpRequest) -> bool:
    return path_of(request).startswith(("/api/", "/v1/", "/ollama/", "/mcp"))


def refused(request: HttpRequest, error: HubError) -> HttpResponse:
    """The error in the format of this route's clients. A person who opened a page gets one when a part of
    the hub is away, which needs none of the parts, and loads itself again."""
    retry_after: int | None = getattr(error, "retry_after", None)
    if isinstance(error, Unavailable) and _opens_a_page(request):
        is_read = request.method == "GET"
        said = {
            "reason": str(error),
            "again": retry_after if is_read else None,
            "address": request.get_full_path() if is_read else "/",
        }
        text = loader.render_to_string("503.html", said)
        response = HttpResponse(text, status=error.status)
        response["Retry-After"] = str(retry_after)
        return response
    return refusal(request, error.status, error.code, str(error), retry_after, **wasted(error))


def _opens_a_page(request: HttpRequest) -> bool:
    asked = "text/html" in request.headers.get("Accept", "")
    return asked and not is_api(request) and "HX-Request" not in request.headers


def refusal(
    request: HttpRequest,
    status: int,
    code: str,
    message: str,
    retry_after: int | None = None,
    **more: str,
) -> HttpResponse:
    """One sentence in the format of this route's clients; `more` is added to the JSON."""
    response: HttpResponse
    path = path_of(request)
    if path.startswith("/v1/messages"):
        response = JsonResponse(anthropic_error(status, message), status=status)
    elif path.startswith("/v1/"):
        response = JsonResponse(openai_error(status, message, code), status=status)
    elif path.startswith("/ollama/"):
        response = JsonResponse(ollama_error(status, message), status=status)
    elif is_api(request):
        error = {"code": code, "message": message, **more}
        response = JsonResponse({"error": error}, status=status)
    else:
        response = HttpResponse(message, status=status, content_type="text/plain; charset=utf-8")
    if retry_after is not None:
        response["Retry-After"] = str(retry_after)
    if status == 401:
        response["WWW-Authenticate"] = "Bearer"
    return response
