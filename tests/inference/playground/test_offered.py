"""What the playground's search finds."""

import pytest
from django.test import Client

from inference.playground import offered as module
from inference.playground.offered import newest, offered
from registry.models import ModelVersion
from registry.promotion import resolve
from tests.inference.builders import make_base, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def versions() -> list[ModelVersion]:
    base = make_base()
    return [make_version(base, version=number) for number in ("0.1.0", "0.2.0", "1.0.0")]


def labels(q: str) -> list[str]:
    return [name.label for name in offered(q)]


def test_names_versions_and_bases_are_found_by_a_part(versions: list[ModelVersion]) -> None:
    numbers = ["calendar@1.0.0", "calendar@0.2.0", "calendar@0.1.0"]
    assert labels("") == ["calendar", *numbers, "base:tiny"]
    assert labels("ALEN")[0] == "calendar"
    assert labels("base:t") == ["base:tiny"]
    assert labels("tin") == ["base:tiny"]
    assert labels("nothing") == []


def test_a_version_is_found_by_its_beginning(versions: list[ModelVersion]) -> None:
    assert labels("calendar@0.") == ["calendar@0.2.0", "calendar@0.1.0"]
    assert labels("cal@1") == []


def test_versions_are_found_where_there_are_too_many_to_list(
    versions: list[ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "LISTED", 2)
    assert labels("cal") == ["calendar"]
    assert labels("Calendar@0.") == ["calendar@0.2.0", "calendar@0.1.0"]


def test_an_answer_has_its_limit(
    versions: list[ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OFFERED", 2)
    assert labels("") == ["calendar", "calendar@1.0.0"]


def test_the_page_begins_with_what_was_made_last(versions: list[ModelVersion]) -> None:
    assert newest() == "calendar@1.0.0"
    ModelVersion.objects.update(status=ModelVersion.Status.ARCHIVED)
    assert newest() == "base:tiny"


def test_the_options_are_html_under_headings(client: Client, versions: list[ModelVersion]) -> None:
    body = client.get("/playground/models/?q=calendar@0.1").content.decode()
    assert body.count('role="option"') == 1
    assert 'data-name="calendar@0.1.0"' in body
    assert "No model or version" in client.get("/playground/models/?q=%3Cb%3E").content.decode()
