"""How exceptions become responses, and the correlation ID in every response."""

from __future__ import annotations

import json

import pytest
from django.http import Http404, HttpRequest
from django.test import Client, RequestFactory
from ninja.errors import ValidationError

from hub import api
from registry.errors import Conflict, HubError, TooManyRequests


@pytest.fixture
def request_() -> HttpRequest:
    return RequestFactory().get("/api/models")


def answer_to(request: HttpRequest, error: Exception) -> tuple[int, dict[str, str], str | None]:
    response = api.api.on_exception(request, error)

    return response.status_code, json.loads(response.content)["error"], response.get("Retry-After")


def test_a_hub_error_gives_its_status_code_and_sentence(request_: HttpRequest) -> None:
    status, error, _ = answer_to(request_, Conflict("The name is taken."))
    assert (status, error) == (409, {"code": "conflict", "message": "The name is taken."})


def test_a_full_queue_says_when_to_retry(request_: HttpRequest) -> None:
    status, _, retry_after = answer_to(request_, TooManyRequests("Full.", retry_after=7))
    assert (status, retry_after) == (429, "7")


def test_a_subclass_of_a_hub_error_is_mapped_too(request_: HttpRequest) -> None:
    class Strange(HubError):
        status, code = 418, "teapot"

    assert answer_to(request_, Strange("No."))[:2] == (418, {"code": "teapot", "message": "No."})


def test_a_missing_row_is_not_found(request_: HttpRequest) -> None:
    assert answer_to(request_, Http404())[0] == 404


def test_an_unexpected_error_reveals_nothing_but_the_id(request_: HttpRequest) -> None:
    status, error, _ = answer_to(request_, RuntimeError("secret path"))
    assert status == 500
    assert "secret" not in error["message"]
    assert "in the log under ID" in error["message"]


@pytest.mark.parametrize(
    ("wrong", "end"),
    [
        (20, "f19 is not known here."),
        (21, "And 1 more problem."),
        (3000, "And 2980 more problems."),
    ],
)
def test_of_many_wrong_fields_the_first_are_named(
    wrong: int, end: str, request_: HttpRequest
) -> None:
    found = [
        {"loc": ("body", "payload", f"f{n}"), "type": "extra_forbidden", "msg": ""}
        for n in range(wrong)
    ]
    status, error, _ = answer_to(request_, ValidationError(found))
    assert status == 422
    assert error["message"].startswith("f0 is not known here. f1 ")
    assert error["message"].endswith(f" {end}")
    assert error["message"].count("not known here") == 20


@pytest.mark.django_db
class TestAnswers:
    def test_an_unknown_api_path_is_json(self, client: Client) -> None:
        answer = client.get("/api/nothing")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"

    def test_invalid_json_is_a_readable_sentence(self, client: Client) -> None:
        answer = client.post("/api/models", {}, content_type="application/json")
        assert answer.status_code == 422
        assert "name is required" in answer.json()["error"]["message"]

    def test_the_documentation_needs_no_other_server(self, client: Client) -> None:
        page = client.get("/api/docs").content.decode()
        assert "/static/ninja/swagger-ui-bundle.js" in page
        assert "https://" not in page
        assert client.get("/api/openapi.json").json()["info"]["title"] == "MLX Model Hub"

    def test_the_document_is_made_once_for_each_address(self) -> None:
        document = api.api.get_openapi_schema()
        assert api.api.get_openapi_schema() is document
        elsewhere = api.api.get_openapi_schema(path_prefix="/elsewhere/")["paths"]
        assert all(path.startswith("/elsewhere/") for path in elsewhere)

    def test_a_correlation_id_is_returned(self, client: Client) -> None:
        answer = client.get("/health", headers={"X-Correlation-ID": "abc-1"})
        assert answer["X-Correlation-ID"] == "abc-1"

    def test_a_correlation_id_is_generated(self, client: Client) -> None:
        first, second = client.get("/health"), client.get("/health")
        assert first["X-Correlation-ID"] != second["X-Correlation-ID"]

    def test_a_correlation_id_that_could_forge_a_log_line_is_replaced(self, client: Client) -> None:
        answer = client.get("/health", headers={"X-Correlation-ID": "a b\u2028c"})
        assert " " not in answer["X-Correlation-ID"]
