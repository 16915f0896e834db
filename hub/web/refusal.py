"""Error responses: JSON for programs, a plain sentence for browsers."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse

from inference.v1.anthropic.bodies import error as anthropic_error
from inference.v1.ollama.bodies import error as ollama_error
from inference.v1.openai.bodies import error as openai_error


def path_of(request: HttpRequest) -> str:
    """The path with one slash at its beginning: `//v1/models` was meant for the API, too."""
    return "/" + request.path.lstrip("/")


def is_api(request: HttpRequest) -> bool:
    return path_of(request).startswith(("/api/", "/v1/", "/ollama/", "/mcp"))


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
