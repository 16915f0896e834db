"""How the hub says no: JSON to programs, a plain sentence to browsers."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse

from inference.v1.anthropic.bodies import error as anthropic_error
from inference.v1.openai.bodies import error as openai_error


def is_api(request: HttpRequest) -> bool:
    return request.path.startswith(("/api/", "/v1/"))


def refusal(
    request: HttpRequest,
    status: int,
    code: str,
    message: str,
    retry_after: int | None = None,
    **more: str,
) -> HttpResponse:
    """One sentence in the form that this route's clients read; `more` goes beside it in JSON."""
    response: HttpResponse
    if request.path.startswith("/v1/messages"):
        response = JsonResponse(anthropic_error(status, message), status=status)
    elif request.path.startswith("/v1/"):
        response = JsonResponse(openai_error(status, message, code), status=status)
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
