"""Requests of a shape that no view could answer get one sentence, in the form of their API."""

from __future__ import annotations

import errno
import io

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.test import Client

from hub.api import page_not_found
from hub.web.middleware import ShapeMiddleware
from registry.storage import paths
from registry.web.lists import listing
from registry.web.paging import LimitOffset

pytestmark = pytest.mark.django_db
BEYOND = "9" * 19


@pytest.fixture
def client() -> Client:
    return Client(raise_request_exception=False)


@pytest.mark.parametrize("path", ["/models/?q=%00", "/api/models?search=a%00", "/models/%00/"])
def test_a_nul_in_an_address(client: Client, path: str) -> None:
    assert client.get(path).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        f"/models/{BEYOND}/",
        f"/api/models/{BEYOND}",
        f"/training/{'8' * 400}/",
        f"/models/1/{BEYOND}.0.0/",
        f"/api/datasets/{BEYOND}/examples",
    ],
)
def test_an_id_that_no_database_counts_to(client: Client, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        f"/api/models?offset={BEYOND}",
        f"/api/requests?offset={BEYOND}",
        f"/api/keys?offset={BEYOND}",
        f"/api/datasets?limit={BEYOND}",
    ],
)
def test_an_offset_that_no_database_counts_to(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 422, answer.content
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("text", ["²", "٣", "9" * 30, "-1", "x", ""])
def test_what_is_no_number_is_left_out(client: Client, text: str) -> None:
    job = {"minutes": text, "before": text, "version": text, "key": text, "report": text}
    for path in ("/system/samples.json", "/requests/", "/playground/"):
        assert client.get(path, {**job, "conversation": text}).status_code == 200


def test_a_page_that_no_database_counts_to(client: Client) -> None:
    assert client.get(f"/models/?page={BEYOND * 3}").status_code in (200, 404)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/chat/completions", lambda body: body["error"]["code"]),
        ("/v1/messages", lambda body: body["error"]["type"]),
        ("/api/inference", lambda body: body["error"]["code"]),
    ],
)
def test_a_body_that_is_too_large(
    client: Client, settings: object, path: str, code: object
) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000  # type: ignore[attr-defined]
    answer = client.post(path, b'"' + b"x" * 1000 + b'"', content_type="application/json")
    assert answer.status_code == 413
    assert code(answer.json())  # type: ignore[operator]
    assert "larger than" in answer.json()["error"]["message"]


def test_what_the_schemas_allow_is_not_too_large(client: Client) -> None:
    body = {"model": "none", "input": ["x" * 11_000] * 256}
    answer = client.post("/v1/embeddings", body, content_type="application/json")
    assert answer.status_code == 404


def test_a_body_in_chunks_is_measured_as_it_arrived(settings: object) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000  # type: ignore[attr-defined]
    scope = {"type": "http", "method": "POST", "path": "/api/inference", "headers": []}
    for size, refused in ((1000, False), (1001, True)):
        request = ASGIRequest(scope, io.BytesIO(b"x" * size))
        answer = ShapeMiddleware(lambda request: HttpResponse()).answer(request)
        assert (answer is not None and answer.status_code == 413) == refused


def test_a_packed_body(client: Client) -> None:
    answer = client.post(
        "/v1/chat/completions",
        b"\x1f\x8b",
        content_type="application/json",
        headers={"content-encoding": "gzip"},
    )
    assert (answer.status_code, answer["Content-Type"]) == (415, "application/json")


def test_two_slashes_are_still_the_api() -> None:
    request = HttpRequest()
    request.path = "//v1/models"
    answer = page_not_found(request, Http404())
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/json")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OperationalError("database or disk is full"),
        OperationalError('could not extend file "base/1/2": No space left on device'),
    ],
)
@pytest.mark.parametrize("path", ["/api/models", "/models/"])
def test_a_full_disk_is_507_with_what_is_full(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, path: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(LimitOffset, "paginate_queryset", full)
    monkeypatch.setattr(listing, "page_of", full)
    answer = client.get(path)
    assert answer.status_code == 507
    assert str(paths.root()) in answer.content.decode()


@pytest.mark.parametrize("path", ["/api/models", "/models/", "/v1/models"])
def test_a_busy_database_is_503_and_one_line_of_the_log(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    path: str,
) -> None:
    def busy(*_: object, **__: object) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(LimitOffset, "paginate_queryset", busy)
    monkeypatch.setattr(listing, "page_of", busy)
    monkeypatch.setattr("inference.v1.openai.api.served_names", busy)
    answer = client.get(path)
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert "The database is not answering at the moment." in answer.content.decode()
    [said] = [record for record in caplog.records if "request_refused" in record.getMessage()]
    assert "database is locked" in said.getMessage()
    assert "Traceback" not in caplog.text
