"""How every compatible API answers what fails: the same rules, each API's own body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from inference.gateway.record import correlation_id
from inference.protocol import wasted
from inference.v1.compatibility import Unsupported
from registry.errors import HubError, internal_error
from registry.problems import body_of, problems
from registry.web.failures import note, understood


class ErrorBody(Protocol):
    """One API's form of an error; `more` goes beside the message, such as a wasted answer."""

    def __call__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        **more: Any,
    ) -> dict[str, Any]: ...


def failed(error: HubError, body: ErrorBody) -> dict[str, Any]:
    """As an answer, or as the last event of a stream."""
    code = "model_not_found" if error.status == 404 else error.code
    param = error.param if isinstance(error, Unsupported) else None
    details = error.details if isinstance(error, Unsupported) else None
    more = {"details": details} if details else {}
    return body(_status(error), str(error), code, param, **wasted(error), **more)


def _status(error: HubError) -> int:
    return 400 if error.status == 422 else error.status  # their clients know no 422


def _within_body(place: Sequence[str | int]) -> Sequence[str | int]:
    """Without what ninja puts before a place: where it read the value, and its parameter's name."""
    return place[2:] if list(place[:2]) == ["body", "payload"] else place[1:]


def answer_errors(api: NinjaAPI, body: ErrorBody) -> None:
    """Let `api` answer every exception in the form of `body`."""

    @api.exception_handler(HubError)
    def hub_error(request: HttpRequest, error: HubError) -> HttpResponse:
        response = JsonResponse(failed(error, body), status=_status(error))
        if (retry_after := getattr(error, "retry_after", None)) is not None:
            response["Retry-After"] = str(retry_after)
        return response

    @api.exception_handler(ValidationError)
    def validation_error(request: HttpRequest, error: ValidationError) -> HttpResponse:
        found = [{**one, "loc": _within_body(one["loc"])} for one in error.errors]
        wrong = problems(found, body_of(request))[0]
        code = "missing_required_parameter" if wrong.is_missing else "invalid_value"
        return JsonResponse(body(400, wrong.sentence, code, wrong.place or None), status=400)

    @api.exception_handler(HttpError)
    def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
        if error.__cause__ and (known := understood(request, error.__cause__)):
            return hub_error(request, known)  # what the parser found wrong with the body
        return JsonResponse(body(error.status_code, str(error)), status=error.status_code)

    @api.exception_handler(Http404)
    def missing(request: HttpRequest, error: Http404) -> HttpResponse:
        return JsonResponse(body(404, "There is nothing here.", "not_found"), status=404)

    @api.exception_handler(Exception)
    def unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
        known = understood(request, error)
        note(request, error, known)
        if known:
            return hub_error(request, known)
        return JsonResponse(body(500, internal_error(correlation_id()), "internal"), status=500)
