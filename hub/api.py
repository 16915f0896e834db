"""The JSON API: its routers, and how exceptions become responses."""

from __future__ import annotations

import sys
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.views import defaults
from ninja import Field, Schema
from ninja.errors import HttpError, ValidationError
from ninja.operation import Operation

from hub.catalogue.api import router as catalogue_router
from hub.monitoring import correlation
from hub.preferences.api import router as settings_router
from hub.web.parser import HubParser
from hub.web.refusal import is_api, refusal, refused
from inference.web.api import router as inference_router
from registry.errors import HubError, internal_error
from registry.problems import body_of, problems
from registry.web.api import router as registry_router
from registry.web.failures import note, understood
from registry.web.openapi import Described
from training.web.api import router as training_router
from training.web.api import versions_router

_MOST_SAID = 20


class Problem(Schema):
    code: str = Field(examples=["not_found"])
    message: str = Field(description="One sentence: what is wrong and what to do")
    failed_generation: str | None = Field(None, description="What the model wrote before it failed")


class Error(Schema):
    error: Problem


class HubAPI(Described):
    """Operation IDs name the app and the subject (`registry_api_models_create_model`), so that
    generated clients keep their names when the code is rearranged."""

    failure = Error

    def get_openapi_operation_id(self, operation: Operation) -> str:
        view = operation.view_func
        return f"{view.__module__}_{view.__name__}".replace(".web", "").replace(".", "_")


api = HubAPI(
    title="MLX Model Hub",
    version="0.2.0",
    description=(
        "Register, train, version, serve and monitor fine-tuned language models. Errors are "
        '`{"error": {"code", "message"}}`. The OpenAI-compatible API is at `/v1`.'
    ),
    urls_namespace="api",
    parser=HubParser(),
)
api.add_router("", catalogue_router)
api.add_router("", registry_router)
api.add_router("/training", training_router)
api.add_router("", versions_router)
api.add_router("", inference_router)
api.add_router("", settings_router)


@api.exception_handler(HubError)
def hub_error(request: HttpRequest, error: HubError) -> HttpResponse:
    return refused(request, error)


@api.exception_handler(ValidationError)
def validation_error(request: HttpRequest, error: ValidationError) -> HttpResponse:
    found = problems(map(_placed, error.errors), body_of(request))
    said = [one.sentence for one in found[:_MOST_SAID]]
    if left := len(found) - len(said):
        said.append(f"And {left} more {'problem' if left == 1 else 'problems'}.")
    return refusal(request, 422, "invalid", " ".join(said))


@api.exception_handler(Http404)
def missing(request: HttpRequest, error: Http404) -> HttpResponse:
    return refusal(request, 404, "not_found", "Nothing with this ID exists.")


@api.exception_handler(HttpError)
def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    if error.__cause__ and (known := understood(request, error.__cause__)):
        return hub_error(request, known)  # what the parser found wrong with the body
    return refusal(request, error.status_code, "bad_request", str(error))


@api.exception_handler(Exception)
def unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
    """The person gets a sentence and an id to look for; the log has the traceback under it."""
    known = understood(request, error)
    note(request, error, known)
    if known:
        return hub_error(request, known)
    return refusal(request, 500, "internal", internal_error(correlation.current()))


def _placed(item: dict[str, Any]) -> dict[str, Any]:
    """The problem without what ninja puts before its place: where it read the value, and the name
    of the operation's parameter for a body."""
    place = list(item["loc"])
    if place and place[0] in ("body", "query", "path", "form", "file", "header"):
        source = place.pop(0)
        if source == "body" and place[:1] == ["payload"]:
            del place[0]
    return {**item, "loc": place}


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's handler404."""
    if is_api(request):
        return refusal(request, 404, "not_found", f"Nothing exists at {request.path}.")
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Django's handler500; it has logged the traceback already. What fails before a view is reached,
    such as the look-up of a key or a session, comes here, too."""
    error = sys.exception()
    if error is not None and (known := understood(request, error)):
        return refused(request, known)
    if is_api(request):
        return refusal(request, 500, "internal", internal_error(correlation.current()))
    return defaults.server_error(request)
