"""One search over everything that has a page."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client, RequestFactory

from hub.web.search import search
from tests.pages.seed import Seeded, make_request, seed

pytestmark = pytest.mark.django_db


@pytest.fixture
def seeded(tmp_path: Path) -> Seeded:
    return seed(tmp_path / "sources", samples=0)


def found(client: Client, q: str) -> dict[str, list[str]]:
    groups = client.get("/find/", {"q": q}).context["groups"]
    return {group.title: [hit.label for hit in group.hits] for group in groups}


def test_everything_with_a_page_is_found(client: Client, seeded: Seeded) -> None:
    assert seeded.running is not None
    by_name = found(client, "calend")
    assert by_name["Models"] == ["calendar"]
    assert by_name["Data sets"] == ["calendar-requests"]
    assert "calendar@0.2.1" in by_name["Versions"]
    assert "calendar@production" in by_name["Versions"]
    assert f"Job {seeded.running.pk}" in by_name["Jobs"]
    assert by_name["Requests"] == ["Requests to “calend”"]
    assert found(client, f"job {seeded.done.pk}")["Jobs"] == [f"Job {seeded.done.pk}"]
    assert found(client, "calendar@0.2")["Versions"] == ["calendar@0.2.1", "calendar@0.2.0"]
    assert found(client, "calendar@prod")["Versions"] == ["calendar@production"]
    assert "calendar@0.1.0" in found(client, "0.1")["Versions"]
    assert found(client, "smollm")["Base models"] == [seeded.base.name]
    assert found(client, "rank")["Settings of a training"] == ["LoRA rank"]
    assert found(client, "upload")["Actions"] == ["Add a data set"]
    assert found(client, "nothing-like-it").keys() == {"Requests"}


def test_requests_are_found_by_id_and_by_their_texts(client: Client, seeded: Seeded) -> None:
    row = make_request(1, correlation_id="trip-7-to-rome", prompt="Wo ist der Löwe?", completion="")
    for q in (row.request_id, row.request_id[:9], "trip-7-to-rome"):
        assert found(client, q)["Requests"][0] == f"Request {row.request_id[:12]}"
    assert found(client, "der löwe")["Requests"][0] == "Wo ist der Löwe?"
    assert found(client, "lunch with ada on friday")["Requests"][0] == (
        'user: Lunch with Ada on Friday {"title": "lunch"'
    )
    page = client.get("/find/", {"q": "der löwe"}).content.decode()
    assert row.get_absolute_url() in page


def test_rows_of_data_sets_are_found_by_their_words(client: Client, seeded: Seeded) -> None:
    [hit, *_] = found(client, "(85)")["Rows of data sets"]
    assert hit.endswith("(85).")
    [group] = [
        group
        for group in client.get("/find/", {"q": "(85)"}).context["groups"]
        if group.title == "Rows of data sets"
    ]
    assert group.hits[0].detail == "calendar-requests, test 6"
    assert "/rows/test/6/#:~:text=%2885%29" in group.hits[0].href
    row = client.get(group.hits[0].href).content.decode()
    assert "<h1>Test 6</h1>" in row
    assert "(85)." in row
    assert "Rows of data sets" not in found(client, "messages")  # a field's name is no text
    assert "Rows of data sets" not in found(client, "85")  # too short


@pytest.mark.slow
def test_every_hit_leads_somewhere_and_the_newest_come_first(
    client: Client, seeded: Seeded
) -> None:
    jobs = found(client, "")["Jobs"]
    assert jobs == sorted(jobs, key=lambda name: -int(name.split()[1]))
    for q in ("", "calendar", "rank"):
        for group in client.get("/find/", {"q": q}).context["groups"]:
            for hit in group.hits:
                assert client.get(hit.href).status_code in (200, 302), hit


def test_the_palette_gets_the_list_alone(client: Client, seeded: Seeded) -> None:
    body = client.get("/find/", {"q": "calendar"}, headers={"HX-Request": "true"}).content
    assert b"<main" not in body
    assert b"calendar@0.2.1" in body


def test_who_is_signed_in_finds_what_they_may_open(rf: RequestFactory, seeded: Seeded) -> None:
    user = User.objects.create(username="ada", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_model"))
    request = rf.get("/find/")
    request.user = User.objects.get(pk=user.pk)
    titles = {group.title for group in search(request, "calendar")}
    assert titles == {"Models"}
    pages = {group.title: group.hits for group in search(request, "")}["Pages"]
    assert [hit.label for hit in pages] == ["Models", "API reference"]
